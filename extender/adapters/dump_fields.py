"""What of an object goes into a dump: an allowlist per kind, so that a field unknown here is left out, whatever it holds. Pure.

Environment values, words of command lines and annotations stay only where Fabricwise reads them; Secrets are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from extender.workload.inference import CommandLine, needed_words

ANNOTATION_PREFIXES = ("fabricwise.dev/", "prometheus.io/")
"""Annotations of a pod that are kept."""

Keep = Callable[[Any], Any]


def _whole(value: Any) -> Any:
    return value


def _fields(**kept: Keep) -> Keep:
    """Of an object, these fields; of a list, these fields of each object. Anything else is left out."""

    def keep(value: Any) -> Any:
        if isinstance(value, list):
            return [keep(item) for item in value]
        return {name: kept[name](value[name]) for name in kept if value.get(name) is not None} if isinstance(value, dict) else None

    return keep


def _named(*names: str) -> Keep:
    return _fields(**dict.fromkeys(names, _whole))


def _annotations(value: Any) -> Any:
    return {name: text for name, text in value.items() if name.startswith(ANNOTATION_PREFIXES)} if isinstance(value, dict) else None


_META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels")
_CONTAINER = _named("name", "image", "resources", "restartPolicy", "ports")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _containers(value: Any) -> Any:
    return [_container(item) for item in _list(value) if isinstance(item, dict)]


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    """A container without what its words and environment say beside what is inferred from them."""
    kept: dict[str, Any] = _CONTAINER(dict(container))
    variables = [one for one in _list(container.get("env")) if isinstance(one, dict) and isinstance(one.get("name"), str)]
    environment = {one["name"]: one["value"] for one in variables if isinstance(one.get("value"), str)}
    words = [word for part in ("command", "args") for word in _list(container.get(part)) if isinstance(word, str)]
    line = CommandLine(str(container.get("name") or "?"), str(container.get("image") or ""), tuple(words), environment, 0)
    needed, values = needed_words(line)
    if needed:
        kept["args"] = list(needed)
    if variables:
        kept["env"] = [{"name": one["name"], **({"value": values[one["name"]]} if one["name"] in values else {})} for one in variables]
    return kept


_CONTAINER_STATUS = _named("name", "allocatedResourcesStatus", "ready")
_NODE_CONDITION = _named("type", "status", "reason")
_POD_CONDITION = _named("type", "status", "reason", "message", "lastTransitionTime")

FIELDS: dict[str, Keep] = {
    "Node": _fields(
        metadata=_named(*_META),
        spec=_named("taints", "unschedulable"),
        status=_fields(allocatable=_whole, capacity=_whole, conditions=_NODE_CONDITION, nodeInfo=_named("kubeletVersion", "architecture")),
    ),
    "Pod": _fields(
        metadata=_fields(**dict.fromkeys(_META, _whole), annotations=_annotations, ownerReferences=_named("kind", "name")),
        spec=_fields(
            containers=_containers,
            initContainers=_containers,
            volumes=_named("name", "persistentVolumeClaim"),
            **dict.fromkeys(
                (
                    "nodeName", "schedulerName", "priority", "priorityClassName", "preemptionPolicy", "nodeSelector", "affinity",
                    "tolerations", "topologySpreadConstraints", "schedulingGates", "overhead", "resources", "resourceClaims", "hostNetwork",
                ),
                _whole,
            ),
        ),
        status=_fields(
            phase=_whole, nominatedNodeName=_whole, podIP=_whole, conditions=_POD_CONDITION,
            containerStatuses=_CONTAINER_STATUS, initContainerStatuses=_CONTAINER_STATUS, resourceClaimStatuses=_whole,
            extendedResourceClaimStatus=_whole,
        ),
    ),
    "GpuTopology": _fields(metadata=_named(*_META), spec=_whole, status=_whole),
    "ResourceSlice": _fields(metadata=_named(*_META), spec=_whole),
    "DeviceClass": _fields(metadata=_named(*_META), spec=_named("selectors", "extendedResourceName")),
    "ResourceClaim": _fields(
        metadata=_named(*_META),
        spec=_fields(devices=_named("requests", "constraints")),
        status=_fields(allocation=_fields(devices=_named("results")), reservedFor=_whole),
    ),
    "ResourceClaimTemplate": _fields(metadata=_named(*_META), spec=_fields(spec=_fields(devices=_named("requests", "constraints")))),
    "DeviceTaintRule": _fields(metadata=_named(*_META), spec=_whole),
}  # fmt: skip
"""Kind -> what is kept of it."""


def dump_fields(kind: str, api_version: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it goes into a dump."""
    return {"apiVersion": api_version, "kind": kind, **FIELDS[kind](dict(manifest))}
