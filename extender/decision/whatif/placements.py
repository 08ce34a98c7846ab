"""What becomes of the pods of a sequence, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from extender.decision.state.snapshot import Snapshot


class PlacementOutcome(StrEnum):
    """What becomes of a pod of a sequence."""

    PLACED = "placed"
    NO_NODE = "no node"
    KUBE_DECIDES = "kube-scheduler decides"
    """The pod requests no whole GPU: kube-scheduler chooses by its own scores among the feasible nodes."""
    SKIPPED = "skipped"
    """kube-scheduler does not take it from its queue, or does not ask about it."""
    NOT_REACHED = "not reached"
    """The time was over before its turn."""


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """How many nodes refuse a pod for one reason."""

    reason: str
    by: str
    """`kube-scheduler` or `fabricwise`."""
    nodes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pod goes, or why it goes nowhere."""

    outcome: PlacementOutcome
    node: str | None = None
    gpus: tuple[int, ...] | None = None
    """nvidia-smi indices of the most probable set; None = no prediction."""
    probability: float | None = None
    """0..1, that it gets exactly this set."""
    bandwidth_gbps: float | None = None
    """All-reduce bandwidth of this set; None = unknown, or a single GPU."""
    expected_gbps: float | None = None
    """Over all sets that it may get."""
    equally_good_nodes: int = 0
    """Nodes with the best score, the chosen one included; a hash of the pod's uid decides among them."""
    feasible_nodes: int = 0
    refusals: tuple[RefusalCount, ...] = ()
    """Where no node is feasible, the most frequent reason first. Of a node with several refusals the first counts, as in events."""
    why: str | None = None
    """Why it is not placed, for people; None where it is placed."""


NOT_REACHED = Placement(PlacementOutcome.NOT_REACHED, why="the time was over before its turn: ask about fewer pods")


@dataclass(frozen=True, slots=True)
class PlacedPods:
    """The result of a sequence."""

    by_pod: Mapping[str, Placement]
    """Pod key -> its placement, in the order of the queue; every pod of the queue."""
    snapshot: Snapshot
    """The state after the last pod that was placed."""
    not_checked: tuple[str, ...]
    """Checks of kube-scheduler that were not made for some pod, each once."""

    @property
    def is_complete(self) -> bool:
        """Whether every pod had its turn."""
        return all(placement.outcome is not PlacementOutcome.NOT_REACHED for placement in self.by_pod.values())
