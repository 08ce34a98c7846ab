"""Names of the resources that count GPUs, slices of GPUs and replicas of GPUs.

Source: NVIDIA k8s-device-plugin README, "Shared Access to GPUs" and "MIG strategies".
"""

from __future__ import annotations

SHARED_SUFFIX = ".shared"
"""Of the resource of replicas under `renameByDefault`."""


def mig_prefix(gpus: str) -> str:
    """Of the resources of MIG devices under the mixed strategy: in the domain of the one that counts GPUs."""
    return f"{gpus.rpartition('/')[0] or 'nvidia.com'}/mig-"


def is_slice(resource: str, gpus: str) -> bool:
    """Whether a resource counts slices or replicas of GPUs; `gpus` is the one that counts GPUs."""
    return resource.startswith(mig_prefix(gpus)) or resource == gpus + SHARED_SUFFIX
