"""FIELDS: the fields of each kind that a dump contains. It is an allowlist: any other field is left out. Pure.

Environment values, command-line arguments and annotations are kept only if Fabricwise reads them; Secrets are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from extender.workload.serving.inference import CommandLine, needed_words

ANNOTATION_PREFIXES = ("fabricwise.dev/", "prometheus.io/")
"""Prefixes of the pod annotations that are kept."""

Keep = Callable[[Any], Any]


def _whole(value: Any) -> Any:
    return value


def _fields(**kept: Keep) -> Keep:
    """Return a function that keeps these fields of an object, or of each object of a list."""

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
    """Return a container whose arguments and environment values are reduced to those from which Fabricwise infers the workload."""
    kept: dict[str, Any] = _CONTAINER(dict(container))
    variables = [item for item in _list(container.get("env")) if isinstance(item, dict) and isinstance(item.get("name"), str)]
    environment = {variable["name"]: variable["value"] for variable in variables if isinstance(variable.get("value"), str)}
    words = [word for part in ("command", "args") for word in _list(container.get(part)) if isinstance(word, str)]
    line = CommandLine(str(container.get("name") or "?"), str(container.get("image") or ""), tuple(words), environment, 0)
    needed, values = needed_words(line)
    if needed:
        kept["args"] = list(needed)
    if variables:
        names = [variable["name"] for variable in variables]
        kept["env"] = [{"name": name, **({"value": values[name]} if name in values else {})} for name in names]
    return kept


_CONTAINER_STATUS = _named("name", "allocatedResourcesStatus", "ready", "resources", "allocatedResources")
_NODE_CONDITION = _named("type", "status", "reason")
_POD_CONDITION = _named("type", "status", "reason", "message", "lastTransitionTime")

FIELDS: dict[str, Keep] = {
    "Node": _fields(
        metadata=_named(*_META),
        spec=_named("taints", "unschedulable"),
        status=_fields(allocatable=_whole, capacity=_whole, conditions=_NODE_CONDITION, nodeInfo=_named("kubeletVersion", "architecture")),
    ),
    "Pod": _fields(
        metadata=_fields(**dict.fromkeys(_META, _whole), annotations=_annotations, ownerReferences=_named("kind", "name", "controller")),
        spec=_fields(
            containers=_containers,
            initContainers=_containers,
            volumes=_named("name", "persistentVolumeClaim"),
            **dict.fromkeys(
                (
                    "nodeName",
                    "schedulerName",
                    "priority",
                    "priorityClassName",
                    "preemptionPolicy",
                    "nodeSelector",
                    "affinity",
                    "tolerations",
                    "topologySpreadConstraints",
                    "schedulingGates",
                    "overhead",
                    "resources",
                    "resourceClaims",
                    "hostNetwork",
                    "runtimeClassName",
                ),
                _whole,
            ),
        ),
        status=_fields(
            phase=_whole,
            nominatedNodeName=_whole,
            podIP=_whole,
            conditions=_POD_CONDITION,
            containerStatuses=_CONTAINER_STATUS,
            initContainerStatuses=_CONTAINER_STATUS,
            resourceClaimStatuses=_whole,
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
    "PodDisruptionBudget": _fields(
        metadata=_named(*_META, "generation"),
        spec=_named("selector", "unhealthyPodEvictionPolicy"),
        status=_named("disruptionsAllowed", "currentHealthy", "desiredHealthy", "observedGeneration"),
    ),
}
"""Kind -> function that keeps its fields."""


def dump_fields(kind: str, api_version: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object as it is written to a dump."""
    return {"apiVersion": api_version, "kind": kind, **FIELDS[kind](dict(manifest))}
