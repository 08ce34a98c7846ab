"""The fields of resource.k8s.io objects that a decision reads, decoded straight from the API's JSON; all else is skipped.

Source of the limits: k8s.io/api v0.36.3 `resource/v1/types.go`, which the API server enforces. Objects from files are held to them too.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from extender.decision.request.kubernetes_objects import Meta
from extender.decision.request.resource_claims import MOST_RESULTS

MOST_DEVICES = 128
"""Devices per slice (ResourceSliceMaxDevices)."""

MOST_EXPRESSION_CHARACTERS = 10 * 1024
"""Characters of one selector (CELSelectorExpressionMaxLength)."""

Bounded = msgspec.Meta(max_length=MOST_DEVICES)


class Attribute(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceAttribute: one of its fields is set."""

    int_: int | None = msgspec.field(default=None, name="int")
    bool_: bool | None = msgspec.field(default=None, name="bool")
    string: str | None = None
    version: str | None = None
    ints: list[int] | None = None
    bools: list[bool] | None = None
    strings: list[str] | None = None
    versions: list[str] | None = None


class Capacity(msgspec.Struct, frozen=True):
    """DeviceCapacity."""

    value: Any = None


class CounterConsumption(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceCounterConsumption, less the counters themselves: what matters is that the device is part of something larger."""

    counter_set: str = ""


class DeviceTaint(msgspec.Struct, frozen=True):
    """DeviceTaint."""

    key: str = ""
    value: str = ""
    effect: str = ""


class Toleration(msgspec.Struct, frozen=True):
    """DeviceToleration."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Device(msgspec.Struct, frozen=True, rename="camel"):
    """Device of a ResourceSlice."""

    name: str
    attributes: dict[str, Attribute] | None = None
    capacity: dict[str, Capacity] | None = None
    taints: list[DeviceTaint] | None = None
    consumes_counters: list[CounterConsumption] | None = None
    allow_multiple_allocations: bool | None = None
    binding_conditions: list[str] | None = None


class Pool(msgspec.Struct, frozen=True, rename="camel"):
    """ResourcePool."""

    name: str
    generation: int = 0
    resource_slice_count: int = 1


class SliceSpec(msgspec.Struct, frozen=True, rename="camel"):
    """ResourceSliceSpec."""

    driver: str
    pool: Pool
    node_name: str | None = None
    all_nodes: bool | None = None
    devices: Annotated[list[Device], Bounded] | None = None
    shared_counters: list[Any] | None = None
    per_device_node_selection: bool | None = None


class ResourceSlice(msgspec.Struct, frozen=True):
    """resource.k8s.io/v1 ResourceSlice."""

    metadata: Meta
    spec: SliceSpec


class CelSelector(msgspec.Struct, frozen=True):
    """CELDeviceSelector."""

    expression: str = ""


class Selector(msgspec.Struct, frozen=True):
    """DeviceSelector; None where it is of a kind that is not known here."""

    cel: CelSelector | None = None


class DeviceClassSpec(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceClassSpec."""

    selectors: Annotated[list[Selector], Bounded] | None = None
    extended_resource_name: str | None = None


class DeviceClass(msgspec.Struct, frozen=True):
    """resource.k8s.io/v1 DeviceClass."""

    metadata: Meta
    spec: DeviceClassSpec = DeviceClassSpec()


class ExactRequest(msgspec.Struct, frozen=True, rename="camel"):
    """ExactDeviceRequest, and DeviceSubRequest, which has a name of its own."""

    name: str = ""
    device_class_name: str = ""
    selectors: Annotated[list[Selector], Bounded] | None = None
    allocation_mode: str = "ExactCount"
    count: int | None = None
    admin_access: bool | None = None
    tolerations: list[Toleration] | None = None
    capacity: Any = None


class ClaimRequest(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceRequest: one exact request, or alternatives of which the first that fits is taken."""

    name: str = ""
    exactly: ExactRequest | None = None
    first_available: Annotated[list[ExactRequest], Bounded] | None = None


class Constraint(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceConstraint."""

    requests: list[str] | None = None
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaim(msgspec.Struct, frozen=True):
    """DeviceClaim."""

    requests: Annotated[list[ClaimRequest], msgspec.Meta(max_length=MOST_RESULTS)] | None = None
    constraints: Annotated[list[Constraint], msgspec.Meta(max_length=MOST_RESULTS)] | None = None


class ClaimSpec(msgspec.Struct, frozen=True):
    """ResourceClaimSpec."""

    devices: DeviceClaim = DeviceClaim()


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceRequestAllocationResult."""

    request: str = ""
    driver: str = ""
    pool: str = ""
    device: str = ""
    admin_access: bool | None = None


class AllocatedDevices(msgspec.Struct, frozen=True):
    """DeviceAllocationResult."""

    results: list[Result] | None = None


class Allocation(msgspec.Struct, frozen=True):
    """AllocationResult."""

    devices: AllocatedDevices = AllocatedDevices()


class Consumer(msgspec.Struct, frozen=True):
    """ResourceClaimConsumerReference."""

    resource: str = ""
    name: str = ""
    uid: str = ""


class ClaimStatus(msgspec.Struct, frozen=True, rename="camel"):
    """ResourceClaimStatus."""

    allocation: Allocation | None = None
    reserved_for: list[Consumer] | None = None


class ResourceClaim(msgspec.Struct, frozen=True):
    """resource.k8s.io/v1 ResourceClaim."""

    metadata: Meta
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class TemplateSpec(msgspec.Struct, frozen=True):
    """ResourceClaimTemplateSpec."""

    spec: ClaimSpec = ClaimSpec()


class ResourceClaimTemplate(msgspec.Struct, frozen=True):
    """resource.k8s.io/v1 ResourceClaimTemplate."""

    metadata: Meta
    spec: TemplateSpec = TemplateSpec()


class DeviceTaintSelector(msgspec.Struct, frozen=True):
    """DeviceTaintSelector: a device must match every field that is set."""

    driver: str | None = None
    pool: str | None = None
    device: str | None = None


class TaintRuleSpec(msgspec.Struct, frozen=True, rename="camel"):
    """DeviceTaintRuleSpec."""

    device_selector: DeviceTaintSelector | None = None
    taint: DeviceTaint = DeviceTaint()


class DeviceTaintRule(msgspec.Struct, frozen=True):
    """resource.k8s.io DeviceTaintRule."""

    metadata: Meta
    spec: TaintRuleSpec = TaintRuleSpec()


DraObject = ResourceSlice | DeviceClass | ResourceClaim | ResourceClaimTemplate | DeviceTaintRule

TYPES: dict[str, type[DraObject]] = {
    "ResourceSlice": ResourceSlice,
    "DeviceClass": DeviceClass,
    "ResourceClaim": ResourceClaim,
    "ResourceClaimTemplate": ResourceClaimTemplate,
    "DeviceTaintRule": DeviceTaintRule,
}
"""Kind -> its type."""

PLURALS = {
    "ResourceSlice": "resourceslices",
    "DeviceClass": "deviceclasses",
    "ResourceClaim": "resourceclaims",
    "ResourceClaimTemplate": "resourceclaimtemplates",
    "DeviceTaintRule": "devicetaintrules",
}
"""Kind -> what its listing is called."""


def key_of(metadata: Meta) -> str:
    """Return namespace/name, or the name of an object without a namespace."""
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
