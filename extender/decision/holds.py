"""Holds: what has been decided and is not yet visible.

kube-scheduler starts the next pod's cycle before the last one's binding has come by on the watch. Until it has, a hold stands for the
pod on the node it was decided for, and later predictions take its devices into account. A hold is memory of ours and nothing else; that
the watch shows the pod, wherever, ends it, and so does its pod being asked about again, deleted, or its time running out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from extender.decision.cluster import Snapshot
from extender.decision.demand import Demand
from extender.decision.objects import Pod
from extender.decision.verdict import Evidence

Guests = Mapping[str, tuple[Demand, ...]]
"""Node -> what pods that the API does not show there yet ask for, in the order they were decided."""

NO_GUESTS: Guests = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Hold:
    """A pod decided for a node."""

    key: str
    namespace: str
    name: str
    node: str
    demand: Demand
    evidence: Evidence
    """What it was predicted to get."""
    placed_steady_seconds: float
    until_steady_seconds: float
    decision: str
    """Id of the decision."""


@dataclass(frozen=True, slots=True)
class Holds:
    """All holds, immutable: whoever reads them keeps what he has."""

    by_pod: Mapping[str, Hold] = field(default_factory=lambda: MappingProxyType({}))
    """In the order they were placed."""

    def placed(self, hold: Hold) -> Holds:
        """With one more; it replaces an earlier one of the same pod."""
        return Holds({**{key: one for key, one in self.by_pod.items() if key != hold.key}, hold.key: hold})

    def released(self, keys: Iterable[str]) -> Holds:
        """Without some."""
        gone = frozenset(keys)
        return self if gone.isdisjoint(self.by_pod) else Holds({key: one for key, one in self.by_pod.items() if key not in gone})

    def ended(self, snapshot: Snapshot, steady_seconds: float) -> tuple[str, ...]:
        """Keys of the holds that are of no use any more: the pod is visible, or its time has run out."""
        return tuple(key for key, one in self.by_pod.items() if key in snapshot.pods or steady_seconds >= one.until_steady_seconds)

    def guests(self, snapshot: Snapshot, steady_seconds: float, but: str, earlier: bool = False) -> Guests:
        """Whom to reckon with for a pod, itself left out. What the snapshot shows already is not counted twice.

        `earlier`: only those that were decided before the pod itself was; those after it have reckoned with it.
        """
        found: dict[str, tuple[Demand, ...]] = {}
        for key, one in self.by_pod.items():
            if earlier and key == but:
                break
            is_seen = key in snapshot.pods or key in snapshot.dra.holders  # its claim may be seen before its binding
            if key != but and not is_seen and steady_seconds < one.until_steady_seconds:
                found[one.node] = (*found.get(one.node, ()), one.demand)
        return found or NO_GUESTS


NO_HOLDS = Holds()


def undone(holds: Holds, before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Keys of the holds whose pods waited and are gone without having been bound, or of whom kube-scheduler says anew that they could
    not be scheduled: something after us refused, or a gang it was part of."""
    return tuple(key for key in holds.by_pod if key in before.pending and key not in after.pods and _came_to_nothing(key, before, after))


def _came_to_nothing(key: str, before: Snapshot, after: Snapshot) -> bool:
    old, new = before.pending[key], after.pending.get(key)
    return new is None or (bool(new.told) and new.told != old.told)


Rank = tuple[int, str, str]
"""Who comes before whom: by priority, then by age, then by key; the smaller comes first."""


def rank_of(pod: Pod) -> Rank:
    """The pod's place among pods that wait."""
    return -(pod.spec.priority or 0), pod.metadata.creation_timestamp or "", pod.key


def nominees(snapshot: Snapshot, rank: Rank) -> Guests:
    """Pods nominated to nodes by preemption for whom a pod of this rank must leave room, as in kube-scheduler's own filters.

    Of two equally important ones the older comes first: were each to leave room for the other, both might be refused.
    """
    found: dict[str, tuple[Demand, ...]] = {}
    for node, keys in snapshot.nominated.items():
        for other in sorted((rank_of(snapshot.pending[key].pod), key) for key in keys):
            demand = snapshot.pending[other[1]].demand
            if other[0] < rank and demand is not None:
                found[node] = (*found.get(node, ()), demand)
    return found or NO_GUESTS


def together(one: Guests, other: Guests) -> Guests:
    """Both."""
    if not one or not other:
        return one or other
    return {node: (*one.get(node, ()), *other.get(node, ())) for node in {**one, **other}}
