"""The pod of a manifest, as what answers questions about it reads it."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.request.kubernetes_objects import Pod
from extender.errors import RequestError

MOST_POD_BYTES = 3 << 20
"""A larger manifest cannot be a pod's: etcd takes 1.5 MiB."""


def pods_from(manifest: Any, source: str = "the manifest") -> tuple[Pod, KubePod]:
    """Return the pod of a manifest (parsed YAML or JSON) as the evaluator and as kube-scheduler's filters read it.

    Raises RequestError naming `source`.
    """
    try:
        return msgspec.convert(manifest, Pod, strict=False), msgspec.convert(manifest, KubePod, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"{source} is not a Pod manifest: {error}. `kubectl explain pod` has the fields; `kubectl get pod NAME -o yaml` prints one"
        ) from error
