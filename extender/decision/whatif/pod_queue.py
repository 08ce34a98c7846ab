"""The order in which kube-scheduler takes waiting pods from its queue, and the pods that it does not take.

Source: kubernetes 1.36 `pkg/scheduler/framework/plugins/queuesort/priority_sort.go`: the higher priority first, then the time at which the
pod came into the queue. That time is not in the API; the time of creation stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPods
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.whatif.hypothetical_cluster import HypotheticalCluster
from extender.decision.whatif.kube_objects import kube_pod_of


@dataclass(frozen=True, slots=True)
class QueuedPod:
    """A pod that waits, and why it is not placed where that is known before any evaluation."""

    pod: Pod
    kube_pod: KubePod
    is_added: bool = False
    """Whether a hypothesis adds it."""
    skipped: str | None = None
    """Why kube-scheduler does not take it from the queue, or does not ask about it; None where it does."""


def queue_of(
    cluster: HypotheticalCluster, is_foreign: Callable[[str | None], bool], assumed_pods: AssumedPods = NO_ASSUMED_PODS
) -> tuple[QueuedPod, ...]:
    """Return the pending pods of a cluster in the order of the queue, then the added ones.

    `is_foreign`: whether a pod of this spec.schedulerName is decided by another scheduler.
    """
    added = {pod.key for pod, _ in cluster.added}
    pending = [each.pod for key, each in cluster.snapshot.pending.items() if key not in added]
    waiting = [(pod, cluster.kube.pending.get(pod.key) or kube_pod_of(pod), False) for pod in sorted(pending, key=queue_order)]
    new = [(pod, kube_pod, True) for pod, kube_pod in sorted(cluster.added, key=lambda pair: -(pair[0].spec.priority or 0))]
    every = (*waiting, *new)
    return tuple(QueuedPod(pod, kube_pod, is_added, _skipped(pod, kube_pod, is_foreign, assumed_pods)) for pod, kube_pod, is_added in every)


def queue_order(pod: Pod) -> tuple[int, str, str, str]:
    """Return the sort key of a pod in kube-scheduler's queue."""
    meta = pod.metadata
    return -(pod.spec.priority or 0), meta.creation_timestamp or "", meta.namespace or "default", meta.name


def _skipped(pod: Pod, kube_pod: KubePod, is_foreign: Callable[[str | None], bool], assumed_pods: AssumedPods) -> str | None:
    if kube_pod.spec.scheduling_gates:
        gates = ", ".join(str(gate.get("name")) for gate in kube_pod.spec.scheduling_gates)
        return f"it waits for its scheduling gates: {gates}"
    assumed = assumed_pods.by_pod.get(pod.key)
    if assumed is not None:
        return f"it was decided for {assumed.node} a moment ago, and counts there"
    if is_foreign(pod.spec.scheduler_name):
        return f"scheduler {pod.spec.scheduler_name or 'default-scheduler'} decides about it (setting scheduler_names)"
    return None
