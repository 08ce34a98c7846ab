"""Objects that could not be used. Each is set aside with its cause, so that it harms nothing else and people can find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["decode", "fold", "derive"]
"""The step that failed: decoding the object, folding it into the state, or deriving a node's view from it."""

MOST_SET_ASIDE = 1_000
"""Entries that are kept; of more, the oldest are dropped."""

_MOST_TEXT = 300
"""Characters of a cause that are kept."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """An object that could not be used. What was known of it before remains valid."""

    kind: str
    """nodes, pods, topologies or telemetry."""
    name: str
    """A node's name, or a pod's key."""
    stage: Stage
    why: str
    node: str | None = None
    """The node that it concerns; None where there is none, or its name cannot be read."""
    version: int | None = None
    """resourceVersion of the object, where it has one."""

    @property
    def key(self) -> str:
        """The key of the entry: one per object, and one per node whose view could not be derived."""
        return view_key(self.name) if self.stage == "derive" else f"{self.kind}/{self.name}"

    @property
    def text(self) -> str:
        """The entry as a line for people."""
        return f"{self.kind}/{self.name} set aside ({self.stage}): {self.why}"


def view_key(node: str) -> str:
    """Return the key of the entry for a node whose view could not be derived."""
    return f"views/{node}"


def described(error: BaseException) -> str:
    """Return an exception as one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {str(error)[:_MOST_TEXT]}".split())[:_MOST_TEXT]
