"""Why a node is rejected: a small closed vocabulary.

kube-scheduler groups nodes with an identical text in the FailedScheduling event, and a text that differs from the one before requeues the
pod at once. So a reason contains no numbers, names or times; those are in `Rejection.detail`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The texts as people read them in events, where a count precedes them: "3 GPU memory class too small"."""

    UNKNOWN_NODE = "node is not yet known to fabricwise"
    BAD_GPU_REQUEST = "pod's GPU request is not a whole number"
    BAD_MIN_GPU_MEMORY = "pod annotation fabricwise.dev/min-gpu-memory is malformed"
    TOO_FEW_GPUS = "node has fewer GPUs than the pod requests"
    TOO_FEW_HEALTHY = "too few healthy GPUs"
    TOO_SMALL_MEMORY = "GPU memory class too small"
    TOO_FEW_FREE = "too few free GPUs"
    BAD_MESSAGE_SIZE = "pod annotation fabricwise.dev/message-size is malformed"
    NUMA_ALIGNMENT = "kubelet would reject: GPUs cannot be aligned to NUMA nodes"
    BAD_MIN_BUSBW = "pod annotation fabricwise.dev/min-busbw is malformed"
    LINK_TOO_SLOW = "bandwidth floor out of reach"
    LINK_TAKEN = "free GPUs do not reach the bandwidth floor"
    HAZARD = "device plugin could crash on this request"
    BAD_WORKLOAD_CLASS = "pod annotation fabricwise.dev/workload-class is malformed"
    BAD_GPU_MEMORY_CLASS = "pod annotation fabricwise.dev/gpu-memory-class is malformed"
    BAD_MIN_FREE_MEMORY = "pod annotation fabricwise.dev/min-free-memory is malformed"
    BAD_MIN_LINK = "pod annotation fabricwise.dev/min-link is malformed"
    BAD_PREFERRED_LINK = "pod annotation fabricwise.dev/preferred-link is malformed"
    BAD_PREFERRED_BUSBW = "pod annotation fabricwise.dev/preferred-busbw is malformed"
    BAD_MIN_COMPUTE_CAPABILITY = "pod annotation fabricwise.dev/min-compute-capability is malformed"
    BAD_MIN_DRIVER = "pod annotation fabricwise.dev/min-driver is malformed"
    BAD_MIN_CUDA = "pod annotation fabricwise.dev/min-cuda is malformed"
    BAD_SHARING = "pod annotation fabricwise.dev/sharing is malformed"
    BAD_MODEL = "pod annotation fabricwise.dev/model is malformed"
    WRONG_MEMORY_CLASS = "GPU memory class is none the pod allows"
    COMPUTE_CAPABILITY = "GPU compute capability too low"
    DRIVER_TOO_OLD = "GPU driver too old"
    CUDA_TOO_OLD = "CUDA version of the GPU driver too old"
    LINK_CLASS_MISSING = "no set of GPUs is joined by the link the pod requires"
    LINK_CLASS_TAKEN = "free GPUs are not joined by the link the pod requires"
    SPREADS_OVER_SHARED = "pod needs whole GPUs that work together, the node's are shared or MIG"
    SHARING_NOT_ALLOWED = "node shares its GPUs in a way the pod does not allow"
    ONE_GPU_MANY_TIMES = "replicas of one GPU are not several GPUs"
    REPLICAS_MAY_COINCIDE = "free replicas may come from one GPU"
    UNKNOWN_CLASS = "pod names a workload class that is not defined"
    AGAINST_CLASS = "pod asks for what its workload class does not allow"
    NOT_IN_POOL = "node is in no pool of the pod's workload class"
    WRONG_PRODUCT = "GPU product is none the pod's workload class allows"
    FATAL_XID = "GPU reports a fatal XID error"
    GPU_MEMORY_ERRORS = "GPU reports uncorrectable memory errors"
    MEMORY_IN_USE = "GPU memory is in use by processes unknown to Kubernetes"
    TELEMETRY_UNKNOWN = "GPU telemetry is unknown and the pod's class requires it"
    NOT_EVALUATED = "fabricwise could not evaluate this node"

    @property
    def resolvable(self) -> bool:
        """Whether preemption or waiting may resolve it. If not, kube-scheduler gets the node as unresolvable."""
        return self in _RESOLVABLE


_RESOLVABLE = frozenset(
    (
        Reason.TOO_FEW_FREE,
        Reason.UNKNOWN_NODE,
        Reason.NUMA_ALIGNMENT,
        Reason.HAZARD,
        Reason.LINK_TAKEN,
        Reason.LINK_CLASS_TAKEN,
        Reason.REPLICAS_MAY_COINCIDE,
    )
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejection: the stable reason, and the details for people."""

    reason: Reason
    detail: str

    @property
    def resolvable(self) -> bool:
        """See `Reason.resolvable`."""
        return self.reason.resolvable
