"""The bounds that the GpuTopology CRD states, field by field, and values on either side of each."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import msgspec
import yaml

from tests.checkout import ROOT
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.manifest_fields import WireTopology
from topology.gputopology.topology_record import Allocation, DeviceStatus, Health, SteeringStatus, TopologyRecord
from topology.platforms import machine_of

CRD = ROOT / "manifests/crd/gputopologies.yaml"
_BOUNDS = ("type", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern")

Path_ = tuple[str, ...]
"""Names of fields from the root down; `[]` stands for an item of a list."""


def crd_schema() -> dict[str, Any]:
    """The schema of the stored version, as the CRD states it."""
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return {"type": "object", "properties": {part: found["properties"][part] for part in ("spec", "status")}}


def codec_schema() -> dict[str, Any]:
    """The same out of the decoder's own types, with references resolved and the alternative `null` left out."""
    (schema,), components = msgspec.json.schema_components([WireTopology], ref_template="{name}")

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in part:
            return resolved(components[part["$ref"]])
        if "anyOf" in part:
            (other,) = [one for one in part["anyOf"] if one.get("type") != "null"]
            return resolved(other)
        found = dict(part)
        if "properties" in part:
            found["properties"] = {name: resolved(one) for name, one in part["properties"].items()}
        if "items" in part:
            found["items"] = resolved(part["items"])
        return found

    whole = resolved(schema)
    return {"type": "object", "properties": {part: whole["properties"][part] for part in ("spec", "status")}}


def bounds(schema: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    """(path, its bounds) of every field of a schema."""
    yield path, {name: schema[name] for name in _BOUNDS if name in schema}
    for name, part in schema.get("properties", {}).items():
        yield from bounds(part, (*path, name))
    if "items" in schema:
        yield from bounds(schema["items"], (*path, "[]"))


def full_manifest() -> dict[str, Any]:
    """A manifest of two GPUs in which every field of the schema has a value."""
    machine = machine_of("t4", "bounds")
    status = DeviceStatus(
        (0,),
        (Allocation(1, "uid", "team", "llm"),),
        ((2, "Xid 79"),),
        1_770_000_000.0,
        (Health(0, 0, 0, False, False, ("idle",)),),
        steering=SteeringStatus("0.1.0", ("nvidia.com/gpu",), "mixed", ((0, 60 << 30),), ((0, 0.75),), 5, (("timeout", 1),), 1),
    )
    manifest = encode(TopologyRecord("bounds", machine, status))
    manifest["spec"] |= {"driverVersion": "570.1", "cudaVersion": "12.8", "peerToPeer": True, "cpuModel": "Intel", "product": "Tesla T4"}
    manifest["spec"]["nics"] = []
    manifest["spec"]["gpus"][0] |= {
        "uuid": "GPU-0",
        "memoryBytes": 1 << 34,
        "pciBusId": "0000:01:00.0",
        "numaNode": 0,
        "cpuAffinity": "0-7",
        "numaAffinity": "0-1",
        "migEnabled": False,
        "pcieGeneration": 3,
        "pcieWidth": 16,
        "nvlinkGeneration": 1,
        "switchLinks": 0,
        "deadLinks": 0,
        "computeCapability": "7.5",
        "eccEnabled": True,
        "persistenceMode": True,
        "oneSidedLinks": 0,
        "migInstances": [{"uuid": "MIG-0", "profile": "1g.5gb", "memoryBytes": 1 << 32}],
        "fabricDomain": {"clusterUuid": "c", "cliqueId": 1, "state": "completed"},
    }
    manifest["status"] |= {"freeCount": 1, "best2Gbps": 1.0, "best4Gbps": 1.0, "allocationsUnknown": "why"}
    return manifest


def _edge_values(limits: dict[str, Any]) -> Iterator[Any]:
    """Values at a field's bounds, beyond them, and of other types."""
    match limits["type"]:
        case "integer" | "number":
            low, high = limits["minimum"], limits["maximum"]
            yield from (low, low - 1, high, high + 1, -(2**40), 2**62, "1", True, [], {})
            if limits["type"] == "integer":
                yield from (low + 0.5,)
        case "boolean":
            yield from (True, False, 0, 1, "true", [])
        case "string" if "pattern" in limits:
            yield from ("", "\n", " ", 5, True)
        case "string":
            yield from ("", "x" * limits["maxLength"], "x" * (limits["maxLength"] + 1), "\u00e9" * limits["maxLength"], 5, True, [], {})
        case "array":
            yield from ({}, "x", 3)
        case "object":
            yield from ([], "x", 3)


_TIMES = (
    "2026-05-01T08:00:00Z",
    "2026-05-01T08:00:00.123456789Z",
    "2026-05-01T08:00:00+02:00",
    "2026-05-01T08:00:00-23:59",
    "2026-05-01T08:00:00",
    "2026-05-01",
    "2026-05-01 08:00:00Z",
    "2026-13-01T08:00:00Z",
    "2026-02-30T08:00:00Z",
    "2026-05-01T24:00:00Z",
    "2026-05-01T08:00:60Z",
    "2026-05-01T08:00:00+24:00",
    "2026-05-01T08:00:00+0200",
    "0001-01-01T00:00:00Z",
    "2999-12-31T23:59:59Z",
    "2026-05-01T08:00:00Z\n",
    "2026-05-01t08:00:00z",
    "20260501T080000Z",
    "2026-W18-5T08:00:00Z",
)
_PATH_ROWS = ("X PIX  PIX PIX", "X\tPIX PIX PIX", " X PIX PIX PIX", "X PIX PIX PIX\n", "X PIG PIX PIX", "x pix pix pix", "X,PIX,PIX,PIX")
_LINK_ROWS = ("0 37 0 0", "0 -1 0 0", "0 1.0 0 0", "0  0 0 0", "0 0 0 0\n", "0 \u0661 0 0", "0 00 0 0", "0 1e1 0 0", "a 0 0 0")


def cases() -> list[tuple[str, dict[str, Any]]]:
    """(name, manifest) per boundary value of every field; each differs from `full_manifest` in that field alone."""
    found: list[tuple[str, dict[str, Any]]] = [("as it is", full_manifest())]
    for path, limits in bounds(crd_schema()):
        if path and path != ("spec",) and not _names_gpu(path):
            found += [(f"{'.'.join(path)} = {str(value)[:40]!r}", _with(path, value)) for value in _edge_values(limits)]
    found += [(f"observedAt = {text!r}", _with(("status", "observedAt"), text)) for text in _TIMES]
    found += [(f"pciePaths row = {row!r}", _with(("spec", "pciePaths", "[]"), row)) for row in _PATH_ROWS]
    found += [(f"nvlinks row = {row!r}", _with(("spec", "nvlinks", "[]"), row)) for row in _LINK_ROWS]
    return [*found, *_list_cases()]


def _names_gpu(path: Path_) -> bool:
    """Whether the field names GPUs, or counts them: a value that no GPU has is refused by the decoder alone, see `_list_cases`."""
    return path[-1] in ("index", "gpuCount") or path == ("status", "free", "[]")


def _list_cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Lists at their greatest length and one beyond, and indices at their bounds, in manifests that agree with themselves."""
    for count in (16, 17):
        manifest = full_manifest()
        manifest["spec"] |= {
            "gpuCount": count,
            "gpus": [{"index": n} for n in range(count)],
            "nvlinks": [" ".join("0" * count)] * count,
            "pciePaths": [" ".join("X" if i == j else "PIX" for j in range(count)) for i in range(count)],
        }
        manifest["status"] = {"free": list(range(count)), "health": [{"index": n} for n in range(count)]}
        yield f"{count} GPUs", manifest
    for count in (64, 65):
        manifest = full_manifest()
        total = 4 + count
        manifest["spec"]["nics"] = [{"name": f"NIC{n}", "numaNode": 0} for n in range(count)]
        manifest["spec"]["pciePaths"] = [" ".join("X" if i == j else "NODE" for j in range(total)) for i in range(total)]
        yield f"{count} NICs", manifest
    for field, item, most in (
        ("allocated", {"index": 1}, 1024),
        ("unhealthy", {"index": 2}, 64),
        ("health", {"index": 0}, 16),
        ("free", 0, 16),
    ):
        for count in (most, most + 1):
            yield f"{count} of status.{field}", _with(("status", field), [item] * count)
    lists: tuple[tuple[str, object, int], ...] = (
        ("resources", "nvidia.com/gpu", 32),
        ("unknownMemory", {"index": 0, "bytes": 1}, 16),
        ("pressure", {"index": 0, "level": 0.5}, 16),
        ("forwarded", {"reason": "timeout", "count": 1}, 32),
    )
    for name, entry, most in lists:
        for count in (most, most + 1):
            yield f"{count} of status.steering.{name}", _with(("status", "steering", name), [entry] * count)
    for count in (64, 65):
        yield f"{count} throttle reasons", _with(("status", "health", "[]", "throttleReasons"), ["idle"] * count)
    for count in (16, 17):
        yield f"{count} MIG instances", _with(("spec", "gpus", "[]", "migInstances"), [{"uuid": f"MIG-{n}"} for n in range(count)])
    for index in (-1, 0, 255, 256):
        manifest = full_manifest()
        manifest["spec"]["gpus"][3]["index"] = index if index else 3
        yield f"index {index}", manifest
    for links in (36, 37):
        manifest = full_manifest()
        manifest["spec"]["nvlinks"] = [f"0 {links} 0 0", f"{links} 0 0 0", "0 0 0 0", "0 0 0 0"]
        yield f"{links} NVLinks of a pair", manifest


def _with(path: Path_, value: Any) -> dict[str, Any]:
    """`full_manifest` with one field set; `[]` in the path is the first item."""
    manifest = deepcopy(full_manifest())
    place: Any = manifest
    for step in path[:-1]:
        place = place[0] if step == "[]" else place[step]
        if place == [] and step == "nics":
            place.append({"name": "NIC0", "device": "mlx5_0", "numaNode": 0})
            manifest["spec"]["pciePaths"] = [f"{row} NODE" for row in manifest["spec"]["pciePaths"]] + ["NODE NODE NODE NODE X"]
    place[0 if path[-1] == "[]" else path[-1]] = value
    return manifest
