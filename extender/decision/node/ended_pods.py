"""Pods that ended lately, remembered until the node's agent has seen it. Pure.

The API server reports the end of a pod at once; the agent's GpuTopology names the pod as a holder until the agent looks at the kubelet
again. So the end takes precedence over an older status. When the kubelet counts the devices of a pod as free:

- deleted: at once, also where the deletion was forced and containers still run (kubernetes issue 104824);
- phase Succeeded or Failed: a moment later, when volumes are unmounted and the pod's worker is done.

Source: kubernetes 1.36 `pkg/kubelet/kubelet_pods.go` (GetActivePods, isPodInactive), `pkg/kubelet/cm/devicemanager/manager.go`
(UpdateAllocatedDevices).

Which status is older is decided by order of arrival, not by clocks: agent and extender run on different machines. The first status after
the end may have been observed before it and have been on its way; the second one was observed after the first one was written. So the
second status that still names the pod is right: its kubelet does not know of the end, as when it cannot reach the API server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from topology.devices.prediction import Steps
from topology.gputopology import Allocation, DeviceStatus

MOST_ENDED = 64
"""Ended pods remembered per node; beyond, the oldest is forgotten."""

UNSURE_SECONDS = 3.0
"""So long after the phase of a pod says that it ended, or until it is deleted, its kubelet may still count the devices as held."""

CONVINCING_REPORTS = 2
"""So many statuses that name a pod after its end prove that it still holds its devices."""


@dataclass(frozen=True, slots=True)
class EndedPod:
    """A pod that no longer holds GPUs, as the API server reports."""

    key: str
    namespace: str
    name: str
    devices: int = 0
    """Mask of the positions it was known to hold when it ended; 0 where none was known."""
    named: frozenset[int] = frozenset()
    """nvidia-smi indices that the agent's status gave it when it ended."""
    overlapping: frozenset[str] = frozenset()
    """Keys of pods that were bound to the node by then and whose devices were not known: they may have been admitted before this pod's
    devices were free."""
    steps: Steps = ()
    """Its containers as the kubelet served them, for the prediction of what it held where that was not known."""
    admission_order: tuple[str, str, str] = ("", "", "")
    """Its place among the pods that the kubelet admits."""
    reports: int = 0
    """Statuses of the agent that arrived after the end and name the pod."""
    unsure_until_seconds: float | None = None
    """Monotonic time until when its kubelet may still count the devices as held; None: it does not."""

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    def is_named_by(self, entry: Allocation) -> bool:
        """Whether the entry is of this pod, or of another of the same name: the kubelet's PodResources API gives no uid."""
        return entry.pod_uid == self.key if entry.pod_uid else bool(entry.pod_name) and self.full_name == full_name_of(entry)

    def may_still_hold(self, monotonic_seconds: float | None) -> bool:
        """Whether its kubelet may still count the devices as held at this monotonic time. Where no time passes it does not."""
        return self.unsure_until_seconds is not None and monotonic_seconds is not None and monotonic_seconds < self.unsure_until_seconds


def full_name_of(entry: Allocation) -> str:
    """namespace/name of an entry's pod."""
    return f"{entry.pod_namespace or 'default'}/{entry.pod_name}"


def remembered(ended: tuple[EndedPod, ...], pod: EndedPod) -> tuple[EndedPod, ...]:
    """With one more, unless it is there already."""
    if any(known.key == pod.key for known in ended):
        return ended
    return (*ended, pod)[-MOST_ENDED:]


def deleted(ended: tuple[EndedPod, ...], key: str) -> tuple[EndedPod, ...]:
    """The ended pods after one of them has been deleted: no doubt is left about that one."""
    return tuple(replace(pod, unsure_until_seconds=None) if pod.key == key else pod for pod in ended)


def reported(ended: tuple[EndedPod, ...], status: DeviceStatus | None) -> tuple[EndedPod, ...]:
    """The ended pods after a further status has arrived, less those about which it is right.

    It is right about a pod that it does not name: it was observed after the end, and a bound pod that it does not name either is admitted
    later still. It is right about a pod that it names when it is the second one that does.
    """
    allocated = status.allocated if status else ()
    named = [pod for pod in ended if any(pod.is_named_by(entry) for entry in allocated)]
    return tuple(replace(pod, reports=pod.reports + 1) for pod in named if pod.reports + 1 < CONVINCING_REPORTS)


def still_needed(
    ended: tuple[EndedPod, ...], has_status: bool, unknown: Iterable[str], monotonic_seconds: float | None
) -> tuple[EndedPod, ...]:
    """The ended pods that a prediction may still depend on at this monotonic time.

    `has_status`: whether an agent reports on the node. `unknown`: keys of bound pods whose devices are not known.
    """
    waiting = frozenset(unknown) | {pod.key for pod in ended if pod.overlapping and not pod.devices}
    left = [replace(pod, overlapping=pod.overlapping & waiting) for pod in ended]
    return tuple(pod for pod in left if pod.overlapping or has_status or pod.may_still_hold(monotonic_seconds))
