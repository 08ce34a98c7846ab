"""The types of the answers with report cards."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from extender.web.answer_types.node_types import AnswerType

CheckStatus = Literal["pass", "unknown", "warn", "fail"]


class CheckResult(AnswerType, frozen=True):
    """One check of a node."""

    check: str
    status: CheckStatus
    evidence: str
    remedy: str


class ReportCard(AnswerType, frozen=True):
    """The checks of one node, and the answers to the questions of its baseline and of its readiness to serve models."""

    node: str
    status: CheckStatus
    gpus: bool
    checks: list[CheckResult]
    baseline: dict[str, str]
    readiness: dict[str, str]
    cluster: str | UnsetType | None = UNSET


class ReportsAnswer(AnswerType, frozen=True):
    """The report cards of all nodes with GPUs."""

    nodes: list[ReportCard]
    cluster: str | None
