"""Pods with annotations, and whether a node rejects them."""

from __future__ import annotations

from typing import Any

from extender.decision.state.snapshot import Snapshot
from tests.decision.verdicts.test_decision import ask, row
from tests.objects import pod


def asks(size: int = 2, **annotations: str) -> dict[str, Any]:
    """A pod with annotations of Fabricwise; in their names, `_` stands for a dash."""
    return pod(size, annotations={f"fabricwise.dev/{name.replace('_', '-')}": value for name, value in annotations.items()})


def refusal(state: Snapshot, manifest: dict[str, Any], name: str = "n") -> tuple[str, bool] | None:
    """(reason, whether it is resolvable) of the node's rejection; None where the pod may go there."""
    rejection = row(ask(state, manifest), name)["rejection"]
    return (rejection["reason"], rejection["resolvable"]) if rejection else None
