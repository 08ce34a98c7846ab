"""The hypothetical changes of a cluster: a closed union, as data. `hypothetical_cluster` applies them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.changes import NodeSeen, TopologySeen
from extender.near_names import near_names

MOST_HYPOTHESES = 100
"""Most hypotheses in one question."""
MOST_ADDED_NODES = 5_000
"""Most hypothetical nodes in one question."""


@dataclass(frozen=True, slots=True)
class AddPods:
    """Some pods of one manifest are created."""

    pod: Pod
    kube_pod: KubePod
    """The same manifest as kube-scheduler's filters read it."""
    count: int = 1


@dataclass(frozen=True, slots=True)
class RemovePod:
    """A pod is deleted, and its owner does not create it again."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Cordon:
    """A node is cordoned. Its pods stay."""

    node: str


@dataclass(frozen=True, slots=True)
class LoseGpu:
    """A GPU of a node fails."""

    node: str
    index: int
    """nvidia-smi index."""


@dataclass(frozen=True, slots=True)
class AddNodes:
    """Nodes are added. `seen` has their Nodes and GpuTopologies."""

    seen: tuple[NodeSeen | TopologySeen, ...]


Hypothesis = AddPods | RemovePod | Cordon | LoseGpu | AddNodes


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a hypothesis cannot be applied: what it names, where, and a remedy."""

    why: str


def near(name: str, names: Iterable[str]) -> str:
    """Return the names that resemble a name, as the end of an error; some names where none does."""
    known = sorted(names)
    close = near_names(name, known)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known are {', '.join(known[:5])}{' and others' if len(known) > 5 else ''}" if known else "none is known"
