"""A what-if question: the waiting pods placed without and with hypotheses, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from extender.decision.pace import Pace, unhurried
from extender.decision.state.fold.reducer import derived_anew
from extender.decision.state.snapshot import Snapshot
from extender.decision.whatif.hypotheses import AddNodes, AddPods, Hypothesis, RemovePod, Unusable
from extender.decision.whatif.hypothetical_cluster import HypotheticalCluster, with_hypotheses
from extender.decision.whatif.placements import PlacedPods
from extender.decision.whatif.pod_queue import QueuedPod, queue_of
from extender.decision.whatif.sequence import Decider, SequenceStart, place_one_by_one

MOST_PODS = 2_000
"""Most pods of a sequence in a request."""
MOST_PODS_OF_COMMAND = 10_000
"""Most pods of a sequence in a command, which takes no time from a running extender."""

ALWAYS_NOT_SIMULATED = (
    "preemption: no running pod is evicted for a pod of higher priority",
    "pods that end, and the load and memory use of placed pods, which telemetry would report",
)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The result of a what-if question."""

    queue: tuple[QueuedPod, ...]
    """With the hypotheses: the pending pods, then the added ones."""
    before: PlacedPods
    """Where the pending pods go without the hypotheses."""
    after: PlacedPods
    now: Snapshot
    """The cluster as it is, before any pod is placed."""
    notes: tuple[str, ...]
    not_simulated: tuple[str, ...]


def what_if(
    start: SequenceStart,
    hypotheses: Sequence[Hypothesis],
    now: Decider,
    then: Decider,
    is_foreign: Callable[[str | None], bool],
    most_pods: int = MOST_PODS,
    pace: Pace = unhurried,
) -> WhatIf | Unusable:
    """Return where the waiting pods go without and with the hypotheses; Unusable where they cannot be applied.

    `now` and `then`: what decides without and with the hypotheses; they differ where settings do. `most_pods`: the bound of pods in one
    sequence, which is checked before any pod is placed.
    """
    snapshot = start.snapshot if then.defaults == now.defaults else derived_anew(start.snapshot, then.resource, then.defaults)
    as_is = HypotheticalCluster(start.snapshot, start.kube)
    cluster = with_hypotheses(replace(as_is, snapshot=snapshot), hypotheses, then.resource, then.defaults, most_pods)
    if isinstance(cluster, Unusable):
        return cluster
    waiting, queue = queue_of(as_is, is_foreign, start.assumed_pods), queue_of(cluster, is_foreign, start.assumed_pods)
    if max(len(waiting), len(queue)) > most_pods:
        pods = f"{len(waiting)} pods wait, and {len(cluster.added)} are to be added"
        return Unusable(f"{pods}: a sequence has at most {most_pods}; add fewer, or delete pods that need not wait")
    before = place_one_by_one(start, waiting, now, pace)
    changed = replace(start, snapshot=cluster.snapshot, kube=cluster.kube)
    after = place_one_by_one(changed, queue, then, pace)
    return WhatIf(queue, before, after, start.snapshot, cluster.notes, _not_simulated(hypotheses, queue))


def _not_simulated(hypotheses: Sequence[Hypothesis], queue: Sequence[QueuedPod]) -> tuple[str, ...]:
    """Return what of the real cluster is left out of this answer."""
    texts = list(ALWAYS_NOT_SIMULATED)
    if any(isinstance(each, AddPods) for each in hypotheses):
        texts.append("the uid of an added pod, which decides among equally good nodes")
    if any(isinstance(each, RemovePod) for each in hypotheses):
        texts.append("a pod that an owner creates again in place of a removed one")
    if any(isinstance(each, AddNodes) for each in hypotheses):
        texts.append("labels and taints of added nodes beside those of GPU Feature Discovery, and the autoscaler's time")
    if any(queued.pod.group is not None for queued in queue):
        texts.append("PodGroups: a pod is placed also where not all pods of its group find a node")
    return tuple(texts)
