"""What kube-scheduler's own filters refuse during a sequence: evaluated once per kind of pod, then anew for changed nodes alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import KubeRefusal, Surroundings
from extender.decision.state.snapshot import Snapshot
from extender.decision.whatif.kube_objects import KubeObjects

_MOST_KINDS = 64
"""Kinds of pods whose refusals are remembered; of 5,000 nodes they take some MB each where all refuse."""


@dataclass(slots=True)
class _Remembered:
    refusals: dict[str, tuple[KubeRefusal, ...]]
    placed: int
    """How many pods had been placed when they were evaluated."""


class KubeRefusals:
    """The refusals of kube-scheduler's filters while pods are placed one after another."""

    def __init__(self, snapshot: Snapshot, kube: KubeObjects) -> None:
        self._pods = dict(kube.bound) if kube.bound is not None else None
        self._around = Surroundings(snapshot.nodes, self._pods, kube.claims, kube.volumes, snapshot.dra.mapped)
        self._placed: list[str] = []
        """The node of each placed pod."""
        self._are_pods_averse = any(_is_averse(pod) for pods in (self._pods or {}).values() for pod in pods)
        self._by_kind: OrderedDict[bytes, _Remembered] = OrderedDict()
        self.not_checked: dict[str, None] = dict.fromkeys(kube.not_known)
        """What the filters did not check for some pod, each text once."""

    def of(self, pod: KubePod) -> Mapping[str, tuple[KubeRefusal, ...]]:
        """Return node -> its refusals of a pod, for the nodes that refuse it."""
        if self._are_pods_averse or _looks_at_other_nodes(pod):
            return self._evaluated(pod, self._around)
        kind = msgspec.json.encode((pod.namespace, pod.metadata.creation_timestamp is None, pod.spec, pod.status))
        known = self._by_kind.get(kind)
        if known is None:
            known = _Remembered(self._evaluated(pod, self._around), len(self._placed))
            self._by_kind[kind] = known
            while len(self._by_kind) > _MOST_KINDS:
                self._by_kind.popitem(last=False)
        elif known.placed < len(self._placed):
            changed = {name: self._around.nodes[name] for name in set(self._placed[known.placed :])}
            for name in changed:
                known.refusals.pop(name, None)
            known.refusals.update(self._evaluated(pod, replace(self._around, nodes=changed)))
            known.placed = len(self._placed)
        self._by_kind.move_to_end(kind)
        return known.refusals

    def place(self, pod: KubePod, node: str) -> None:
        """Count a pod on the node that it is placed on."""
        if self._pods is None:
            return
        bound = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))
        self._pods[node] = (*self._pods.get(node, ()), bound)
        self._placed.append(node)
        self._are_pods_averse = self._are_pods_averse or _is_averse(pod)

    def _evaluated(self, pod: KubePod, around: Surroundings) -> dict[str, tuple[KubeRefusal, ...]]:
        answer = evaluate(pod, around)
        self.not_checked.update(dict.fromkeys(answer.not_checked))
        return dict(answer.refusals)


def _is_averse(pod: KubePod) -> bool:
    """Whether a pod keeps other pods away from nodes other than its own."""
    anti_affinity = pod.spec.affinity.pod_anti_affinity if pod.spec.affinity else None
    return bool(anti_affinity and anti_affinity.required_during_scheduling_ignored_during_execution)


def _looks_at_other_nodes(pod: KubePod) -> bool:
    """Whether the filters' result for a node depends on pods of other nodes."""
    affinity = pod.spec.affinity
    return bool(pod.spec.topology_spread_constraints) or (
        affinity is not None and (affinity.pod_affinity is not None or affinity.pod_anti_affinity is not None)
    )
