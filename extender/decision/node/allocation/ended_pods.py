"""Pods that ended lately, remembered until the agent of their node has seen the end.

The API server reports the end of a pod at once; the agent's GpuTopology names the pod until the agent reads the kubelet again. So the end
takes precedence over an older status. The kubelet counts the devices of a pod as free

- at once where the pod is deleted, also where the deletion was forced and containers still run (kubernetes issue 104824);
- a moment later where its phase is Succeeded or Failed: after its volumes are unmounted and its worker has finished.

Source: kubernetes 1.36 `pkg/kubelet/kubelet_pods.go` (GetActivePods, isPodInactive), `pkg/kubelet/cm/devicemanager/manager.go`
(UpdateAllocatedDevices).

Which status is older follows from the order of arrival, not from clocks: agent and extender run on different machines. The first status
that arrives after the end may have been observed before it; the second one was observed after the first one had been written. So the second
status that still names the pod is right: its kubelet does not know of the end, for example because it cannot reach the API server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from topology.devices.prediction import Steps
from topology.gputopology.topology_record import Allocation, DeviceStatus

MOST_ENDED = 64
"""Ended pods remembered per node; of more, the oldest are dropped."""

UNSURE_SECONDS = 3.0
"""Time after the phase of a pod shows its end, or until its deletion, in which the kubelet may still count the devices as allocated."""

CONVINCING_REPORTS = 2
"""Number of statuses that name a pod after its end which proves that it still holds its devices."""


AdmissionOrder = tuple[str, int, str, str, str]
"""(time of binding, minus the priority, time of creation, namespace/name, key): see `BoundPod.admission_order`."""


@dataclass(frozen=True, slots=True)
class EndedPod:
    """A pod that no longer holds GPUs, as the API server reports."""

    key: str
    namespace: str
    name: str
    devices: int = 0
    """Mask of the positions that it was known to hold at its end; 0 where none was known."""
    named: frozenset[int] = frozenset()
    """nvidia-smi indices that the agent's status gave it at its end."""
    overlapping: frozenset[str] = frozenset()
    """Keys of pods that were bound to the node at its end and whose devices were not known: they may have been admitted before this pod's
    devices were free."""
    steps: Steps = ()
    """`Demand.steps` of the pod, to predict what it held where that was not known."""
    admission_order: AdmissionOrder = ("", 0, "", "", "")
    """`BoundPod.admission_order` of the pod."""
    reports: int = 0
    """Number of statuses that arrived after the end and name the pod."""
    unsure_until_seconds: float | None = None
    """Monotonic time until which its kubelet may still count the devices as allocated; None: it does not."""

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    def is_named_by(self, entry: Allocation) -> bool:
        """Whether the entry is of this pod, or of another one with the same name: the kubelet's PodResources API gives no uid."""
        return entry.pod_uid == self.key if entry.pod_uid else bool(entry.pod_name) and self.full_name == full_name_of(entry)

    def may_still_hold(self, monotonic_seconds: float | None) -> bool:
        """Whether its kubelet may still count the devices as allocated at this monotonic time. Where no time passes, it does not."""
        return self.unsure_until_seconds is not None and monotonic_seconds is not None and monotonic_seconds < self.unsure_until_seconds


def full_name_of(entry: Allocation) -> str:
    """Return namespace/name of an entry's pod."""
    return f"{entry.pod_namespace or 'default'}/{entry.pod_name}"


def remembered(ended: tuple[EndedPod, ...], pod: EndedPod) -> tuple[EndedPod, ...]:
    """Return the ended pods with one more, unless it is among them."""
    if any(known.key == pod.key for known in ended):
        return ended
    return (*ended, pod)[-MOST_ENDED:]


def deleted(ended: tuple[EndedPod, ...], key: str) -> tuple[EndedPod, ...]:
    """Return the ended pods after the one with this key was deleted: its kubelet has freed the devices."""
    return tuple(replace(pod, unsure_until_seconds=None) if pod.key == key else pod for pod in ended)


def reported(ended: tuple[EndedPod, ...], status: DeviceStatus | None) -> tuple[EndedPod, ...]:
    """Return the ended pods after a further status has arrived, without those for which it is known to be newer than the end.

    That is so for a pod that it does not name: it was observed after the end, and a bound pod that it does not name either is admitted
    even later. It is also so for a pod that it is the second status to name.
    """
    allocated = status.allocated if status else ()
    named = [pod for pod in ended if any(pod.is_named_by(entry) for entry in allocated)]
    return tuple(replace(pod, reports=pod.reports + 1) for pod in named if pod.reports + 1 < CONVINCING_REPORTS)


def still_needed(
    ended: tuple[EndedPod, ...], has_status: bool, unknown: Iterable[str], monotonic_seconds: float | None
) -> tuple[EndedPod, ...]:
    """Return the ended pods that a prediction may still depend on at this monotonic time.

    `has_status`: whether the node's GpuTopology has a status. `unknown`: keys of bound pods whose devices are not known.
    """
    waiting = frozenset(unknown) | {pod.key for pod in ended if pod.overlapping and not pod.devices}
    left = [replace(pod, overlapping=pod.overlapping & waiting) for pod in ended]
    return tuple(pod for pod in left if pod.overlapping or has_status or pod.may_still_hold(monotonic_seconds))
