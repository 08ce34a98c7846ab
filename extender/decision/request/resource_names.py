"""Names of the resources that count GPUs, MIG devices and replicas of GPUs.

Source: NVIDIA k8s-device-plugin README, "Shared Access to GPUs" and "MIG strategies".
"""

from __future__ import annotations

SHARED_SUFFIX = ".shared"
"""Suffix of the resource that counts replicas under `renameByDefault`."""


def mig_prefix(gpus: str) -> str:
    """Return the prefix of the resources of MIG devices under the mixed strategy. They share the domain of `gpus`, which counts GPUs."""
    return f"{gpus.rpartition('/')[0] or 'nvidia.com'}/mig-"


def is_slice(resource: str, gpus: str) -> bool:
    """Whether a resource counts MIG devices or replicas of GPUs; `gpus` is the resource that counts GPUs."""
    return resource.startswith(mig_prefix(gpus)) or resource == gpus + SHARED_SUFFIX
