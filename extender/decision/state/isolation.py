"""Objects that could not be used: what is kept of each, so that one bad object harms nothing else and can be found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["decode", "fold", "derive"]
"""Where an object failed: reading it, taking it into the state, or deriving a node's view from it."""

MOST_SET_ASIDE = 1_000
"""Entries that are kept; the oldest go first."""

_MOST_TEXT = 300
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """An object that could not be used. What was known of it before stays in force."""

    kind: str
    """As listings call it: nodes, pods, topologies; or telemetry."""
    name: str
    """A node's name, or a pod's key."""
    stage: Stage
    why: str
    node: str | None = None
    """The node that it concerns; None where it concerns none, or that cannot be read."""
    version: int | None = None
    """resourceVersion of the object."""

    @property
    def key(self) -> str:
        """What it is kept under: one entry per object, and one per node whose view could not be derived."""
        return view_key(self.name) if self.stage == "derive" else f"{self.kind}/{self.name}"

    @property
    def text(self) -> str:
        """The note for people."""
        return f"{self.kind}/{self.name} set aside ({self.stage}): {self.why}"


def view_key(node: str) -> str:
    """The key of an entry about a node whose view could not be derived."""
    return f"views/{node}"


def described(error: BaseException) -> str:
    """An exception in one bounded line."""
    return " ".join(f"{type(error).__name__}: {str(error)[:_MOST_TEXT]}".split())[:_MOST_TEXT]
