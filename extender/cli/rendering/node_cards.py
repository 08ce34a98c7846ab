"""Report cards of nodes as tables: what is wrong comes first, and what is wrong on several nodes is said once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.tables import Column, FittedTable, few

STYLES = {"pass": "green", "unknown": "dim", "warn": "yellow", "fail": "bold red"}
WORST_FIRST = ("fail", "warn", "unknown", "pass")
MOST_NAMED = 8
"""Nodes named in a command of a remedy, and of a finding."""
ONE_NODE = (Column("check", 0), Column("", 0), Column("evidence", 0, least_width=14), Column("what to do", 1, least_width=14))
NODES = (
    Column("node", 0, least_width=16),
    Column("status", 4),
    Column("fail", 3, least_width=10),
    Column("warn", 2, least_width=10),
    Column("unknown", 1, least_width=10),
)


@dataclass(slots=True)
class Finding:
    """What a check found, on all nodes of which the same remedy helps."""

    check: str
    status: str
    remedy: str
    """With `NODES_HERE` in the place of the nodes' names."""
    evidence: dict[str, list[str]] = field(default_factory=dict)
    """What was seen -> on which nodes."""

    @property
    def nodes(self) -> list[str]:
        """All of them, each once, in order."""
        return list(dict.fromkeys(node for nodes in self.evidence.values() for node in nodes))


NODES_HERE = "\0"


def findings(cards: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What is not in order, grouped by check, status and remedy; worst first, then what concerns most nodes."""
    groups: dict[tuple[str, str, str], Finding] = {}
    for card in cards:
        for one in card["checks"]:
            if one["status"] != "pass":
                remedy, evidence = (_without_name(one[part], card["node"]) for part in ("remedy", "evidence"))
                finding = groups.setdefault((one["check"], one["status"], remedy), Finding(one["check"], one["status"], remedy))
                finding.evidence.setdefault(evidence, []).append(card["node"])
    return sorted(groups.values(), key=lambda found: (WORST_FIRST.index(found.status), -len(found.nodes), found.check))


def _without_name(text: str, node: str) -> str:
    """The text with a mark where it names the node as a word of its own, not as part of another name."""
    return re.sub(rf"(?<![\w./-]){re.escape(node)}(?![\w./=:-])", NODES_HERE, text)


def card_table(answer: Mapping[str, Any]) -> RenderableType:
    """One node's card: checks, worst first, then the questions that they do not answer themselves."""
    table = FittedTable(ONE_NODE, title=f"{answer['node']}: {answer['status']}")
    for one in sorted(answer["checks"], key=lambda one: WORST_FIRST.index(one["status"])):
        table.add((one["check"], Text(one["status"], style=STYLES[one["status"]]), one["evidence"], one["remedy"]))
    parts: list[RenderableType] = [table]
    if not answer.get("gpus", True):
        parts.append(Text("the node has no GPUs: neither its resources nor its labels nor an agent tell of any"))
    evidence = {one["evidence"] for one in answer["checks"]}
    answers = {**answer["baseline"], **answer.get("readiness", {})}
    questions = [Text(f"  {question}? {words}") for question, words in answers.items() if words not in evidence]
    if questions:
        parts += [Text("what the checks do not say", style="bold"), *questions]
    return Group(*parts, *_cluster(answer))


def cards_table(answer: Mapping[str, Any]) -> RenderableType:
    """What is wrong, in words and grouped; then a row per node, the worst first."""
    cards = sorted(answer["nodes"], key=lambda card: (WORST_FIRST.index(card["status"]), card["node"]))
    if not cards:
        return Group(Text("no node has GPUs"), *_cluster(answer))
    counts = ", ".join(f"{count} {status}" for status in WORST_FIRST if (count := sum(card["status"] == status for card in cards)))
    parts: list[RenderableType] = [Text(f"{len(cards)} nodes with GPUs: {counts}", style="bold")]
    for found in findings(cards):
        parts += _said(found, len(cards))
    table = FittedTable(NODES)
    for card in cards:
        by_status = {status: [one["check"] for one in card["checks"] if one["status"] == status] for status in WORST_FIRST}
        status = Text(card["status"], style=STYLES[card["status"]])
        table.add((card["node"], status, *(", ".join(by_status[name]) for name in ("fail", "warn", "unknown"))))
    return Group(*parts, table, *_cluster(answer))


def _said(found: Finding, of: int) -> list[Text]:
    """A finding: on which nodes, what was seen, and what to do, with the nodes' names in the command."""
    nodes = found.nodes
    where = f"all {of} nodes" if len(nodes) == of > 1 else few(nodes, MOST_NAMED)
    lines = [Text(f"{found.status} {found.check}: {where}", style=STYLES[found.status])]
    for evidence, seen_on in list(found.evidence.items())[:MOST_NAMED]:
        on = f" ({few(seen_on)})" if len(found.evidence) > 1 else ""
        lines.append(Text(f"  {evidence.replace(NODES_HERE, few(seen_on))}{on}"))
    if len(found.evidence) > MOST_NAMED:
        lines.append(Text(f"  and {len(found.evidence) - MOST_NAMED} more (-o json has all)"))
    if found.remedy:
        named = " ".join(nodes) if len(nodes) <= MOST_NAMED else f"{' '.join(nodes[:MOST_NAMED])} ... ({len(nodes)} nodes)"
        lines.append(Text(f"  -> {found.remedy.replace(NODES_HERE, named)}"))
    return lines


def _cluster(answer: Mapping[str, Any]) -> list[Text]:
    return [Text(f"cluster: {answer['cluster']}")] if answer.get("cluster") else []
