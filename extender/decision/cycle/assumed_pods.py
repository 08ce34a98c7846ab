"""Assumed pods: pods that are decided for a node and not yet visible there.

kube-scheduler starts the next pod's cycle before the watch shows the binding of the previous pod. Until then the assumed pod counts as an
extra pod of the node it was decided for, and later predictions take its devices into account. Assumed pods exist in the extender's memory
only. An assumed pod ends when the watch shows the pod on any node, when kube-scheduler starts another cycle for the pod, when the pod is
deleted, or when its time ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from extender.decision.evaluate.verdict import Evidence
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand
from extender.decision.state.pods import NO_EXTRA_PODS, ExtraPods
from extender.decision.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class AssumedPod:
    """A pod decided for a node."""

    key: str
    """The pod's uid."""
    namespace: str
    name: str
    node: str
    demand: Demand
    evidence: Evidence
    """The prediction of what the pod gets on the node."""
    placed_monotonic_seconds: float
    until_monotonic_seconds: float
    decision: str
    """Id of the decision, see `PlacementRecord`."""
    group: str | None = None
    """namespace/name of its PodGroup; None where it is in none."""

    def unseen(self, snapshot: Snapshot) -> Demand | None:
        """Return what the snapshot does not show of the pod's demand yet; None where it shows all.

        A bound pod shows the GPUs that it requests by number; an allocated claim that is reserved for the pod shows its devices, which is
        some milliseconds before the binding. The claim of extended resources is one that the pod does not name.
        """
        demand, is_bound, claims = self.demand, self.key in snapshot.pods, self.demand.claims
        held = snapshot.dra.holders.get(self.key, frozenset())
        if claims is None:
            return None if is_bound or held else demand
        has_extended = bool(held - claims.named)
        requests = tuple(
            alternatives
            for alternatives in claims.requests
            if (alternatives[0].claim not in held if alternatives[0].claim is not None else not has_extended)
        )
        is_counted = is_bound or has_extended or not demand.total
        if not requests and is_counted:
            return None
        unseen_claims = replace(claims, requests=requests)
        return replace(demand, claims=unseen_claims, steps=() if is_counted else demand.steps, total=0 if is_counted else demand.total)


@dataclass(frozen=True, slots=True)
class AssumedPods:
    """All assumed pods. Immutable: a thread that reads them is not affected by later changes."""

    by_pod: Mapping[str, AssumedPod] = field(default_factory=lambda: MappingProxyType({}))
    """Pod key -> assumed pod, in the order of the decisions."""

    def placed(self, assumed_pod: AssumedPod) -> AssumedPods:
        """Return these with `assumed_pod` added last; it replaces an earlier one of the same pod."""
        return AssumedPods({**{key: other for key, other in self.by_pod.items() if key != assumed_pod.key}, assumed_pod.key: assumed_pod})

    def released(self, keys: Iterable[str]) -> AssumedPods:
        """Return these without the assumed pods of these keys."""
        released = frozenset(keys)
        if released.isdisjoint(self.by_pod):
            return self
        return AssumedPods({key: assumed_pod for key, assumed_pod in self.by_pod.items() if key not in released})

    def reverted_by(self, key: str) -> tuple[str, ...]:
        """Return the keys of the assumed pods that end when kube-scheduler starts another cycle for the pod `key`: that pod itself, and
        the pods of its PodGroup that were decided after it.

        kube-scheduler schedules a group pod by pod, and reverts all its assumptions before it tries the group again.
        """
        assumed_pod = self.by_pod.get(key)
        if assumed_pod is None:
            return ()
        keys = list(self.by_pod)
        later = keys[keys.index(key) + 1 :] if assumed_pod.group is not None else []
        return key, *(other for other in later if self.by_pod[other].group == assumed_pod.group)

    def is_in_force(self, key: str, monotonic_seconds: float) -> bool:
        """Whether the pod is assumed and its time has not ended."""
        assumed_pod = self.by_pod.get(key)
        return assumed_pod is not None and monotonic_seconds < assumed_pod.until_monotonic_seconds

    def ended(self, snapshot: Snapshot, monotonic_seconds: float) -> tuple[str, ...]:
        """Return the keys of the assumed pods that have ended: the snapshot shows the pod, or its time has passed."""
        return tuple(
            key
            for key, assumed_pod in self.by_pod.items()
            if (key in snapshot.pods and assumed_pod.unseen(snapshot) is None) or monotonic_seconds >= assumed_pod.until_monotonic_seconds
        )

    def extra_pods(self, snapshot: Snapshot, monotonic_seconds: float, but: str, earlier: bool = False) -> ExtraPods:
        """Return node -> demands of the assumed pods that count for the pod with key `but`, without that pod itself.

        An assumed pod that the snapshot shows already is not counted twice. `earlier`: only those decided before the pod `but` was; the
        later ones were decided with `but` counted, so they count after it.
        """
        extra_pods: dict[str, tuple[Demand, ...]] = {}
        for key, assumed_pod in self.by_pod.items():
            if earlier and key == but:
                break
            if key == but or monotonic_seconds >= assumed_pod.until_monotonic_seconds:
                continue
            unseen = assumed_pod.unseen(snapshot)
            if unseen is not None:
                extra_pods[assumed_pod.node] = (*extra_pods.get(assumed_pod.node, ()), unseen)
        return extra_pods or NO_EXTRA_PODS


NO_ASSUMED_PODS = AssumedPods()


def undone(assumed_pods: AssumedPods, before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Return the keys of the assumed pods that will not be bound by this decision.

    These were bound `before` and are gone `after`; or they were pending `before` and are either deleted `after`, or have a new message of
    kube-scheduler that the pod is unschedulable: a plugin that runs after the extender refused the pod, or the gang that it belongs to.
    """
    gone = [key for key in assumed_pods.by_pod if key not in after.pods]
    return tuple(key for key in gone if key in before.pods or (key in before.pending and _is_abandoned(key, before, after)))


def _is_abandoned(key: str, before: Snapshot, after: Snapshot) -> bool:
    old, new = before.pending[key], after.pending.get(key)
    return new is None or (bool(new.scheduler_message) and new.scheduler_message != old.scheduler_message)


Rank = tuple[int, str, str]
"""(negative priority, creation time, key): of two pods the smaller rank comes first."""


def rank_of(pod: Pod) -> Rank:
    """Return the pod's rank among pending pods."""
    return -(pod.spec.priority or 0), pod.metadata.creation_timestamp or "", pod.key


def nominees(snapshot: Snapshot, rank: Rank, assumed_pods: AssumedPods, monotonic_seconds: float) -> ExtraPods:
    """Return node -> demands of the nominated pods for which a pod of this rank must leave room, as in kube-scheduler's own filters.

    Of two pods of equal priority the older comes first: if each left room for the other, both could be refused. A nominated pod that is
    assumed, or whose ResourceClaims hold devices, counts already: from version 1.35 on kube-scheduler nominates each pod whose binding
    takes time, as that of a pod with claims does (feature gate NominatedNodeNameForExpectation).
    """
    extra_pods: dict[str, tuple[Demand, ...]] = {}
    for node, keys in snapshot.nominated.items():
        for nominee_rank, key in sorted((rank_of(snapshot.pending[key].pod), key) for key in keys):
            demand = snapshot.pending[key].demand
            is_counted = key in snapshot.dra.holders or assumed_pods.is_in_force(key, monotonic_seconds)
            if nominee_rank < rank and demand is not None and not is_counted:
                extra_pods[node] = (*extra_pods.get(node, ()), demand)
    return extra_pods or NO_EXTRA_PODS


def together(first: ExtraPods, second: ExtraPods) -> ExtraPods:
    """Return the extra pods of both, those of `first` first."""
    if not first or not second:
        return first or second
    return {node: (*first.get(node, ()), *second.get(node, ())) for node in {**first, **second}}
