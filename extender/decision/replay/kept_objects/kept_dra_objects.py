"""What a decision reads of the objects of resource.k8s.io, with names as a `Naming` has them."""

from __future__ import annotations

import re

from msgspec import structs

from extender.decision.dra.resource_objects import (
    AllocatedDevices,
    Allocation,
    Attribute,
    CelSelector,
    ClaimRequest,
    ClaimSpec,
    ClaimStatus,
    Consumer,
    Device,
    DeviceClass,
    DeviceTaintRule,
    DraObject,
    ExactRequest,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
    Result,
    Selector,
    TemplateSpec,
)
from extender.decision.replay.kept_objects.kept_names import claim_key, kept_meta
from extender.decision.replay.kept_objects.named_texts import Names, Naming

_UUIDS = ("uuid", "parentUUID")
"""Attributes, without their domain, whose values are uuids of GPUs."""


def kept_dra_object(item: DraObject, naming: Naming) -> DraObject:
    """Return an object of any kind."""
    match item:
        case ResourceSlice():
            return _slice(item, naming)
        case DeviceClass(metadata, spec):
            return DeviceClass(kept_meta(metadata, None, naming), structs.replace(spec, selectors=_selectors(spec.selectors, naming)))
        case ResourceClaim(metadata, spec, status):
            return ResourceClaim(kept_meta(metadata, Names.CLAIM, naming), _claim(spec, naming), _claim_status(item, status, naming))
        case ResourceClaimTemplate(metadata, spec):
            return ResourceClaimTemplate(kept_meta(metadata, Names.CLAIM, naming), TemplateSpec(_claim(spec.spec, naming)))
        case DeviceTaintRule():
            return _taint_rule(item, naming)


def dra_key(kind: str, key: str, naming: Naming) -> str:
    """Return the key of an object; `kind`: one of `dra_state.DRA_KINDS`."""
    match kind:
        case "resourceclaims" | "resourceclaimtemplates":
            return claim_key(key, naming)
        case "deviceclasses":
            return key
        case _:
            return naming.name(Names.OBJECT, key)


def _slice(item: ResourceSlice, naming: Naming) -> ResourceSlice:
    spec = item.spec
    pool = structs.replace(spec.pool, name=naming.name(Names.POOL, spec.pool.name))
    node = naming.name(Names.NODE, spec.node_name) if spec.node_name else spec.node_name
    devices = None if spec.devices is None else [_device(device, naming) for device in spec.devices]
    return ResourceSlice(kept_meta(item.metadata, Names.OBJECT, naming), structs.replace(spec, pool=pool, node_name=node, devices=devices))


def _device(device: Device, naming: Naming) -> Device:
    if not naming.is_hidden or not device.attributes:
        return device
    attributes = {name: _attribute(name.rpartition("/")[2], attribute, naming) for name, attribute in device.attributes.items()}
    return structs.replace(device, attributes=attributes)


def _attribute(name: str, attribute: Attribute, naming: Naming) -> Attribute:
    if name not in _UUIDS or not attribute.string:
        return attribute
    return structs.replace(attribute, string=naming.name(Names.GPU, attribute.string))


_LITERAL = re.compile(r"""(["'])([^"'\\]*)\1""")


def _selectors(selectors: list[Selector] | None, naming: Naming) -> list[Selector] | None:
    """Return selectors; with hidden names a literal that is the uuid of a known GPU is hidden too."""
    if selectors is None or not naming.is_hidden:
        return selectors

    def hidden(literal: re.Match[str]) -> str:
        return f"{literal[1]}{naming.name_if_known(Names.GPU, literal[2])}{literal[1]}"

    return [Selector(CelSelector(_LITERAL.sub(hidden, each.cel.expression)) if each.cel is not None else None) for each in selectors]


def _claim(spec: ClaimSpec, naming: Naming) -> ClaimSpec:
    requests = spec.devices.requests
    kept = None if requests is None else [_request(request, naming) for request in requests]
    return ClaimSpec(structs.replace(spec.devices, requests=kept))


def _request(request: ClaimRequest, naming: Naming) -> ClaimRequest:
    exactly, several = request.exactly, request.first_available
    return structs.replace(
        request,
        exactly=None if exactly is None else _exact(exactly, naming),
        first_available=None if several is None else [_exact(each, naming) for each in several],
    )


def _exact(request: ExactRequest, naming: Naming) -> ExactRequest:
    return structs.replace(request, selectors=_selectors(request.selectors, naming))


def _claim_status(claim: ResourceClaim, status: ClaimStatus, naming: Naming) -> ClaimStatus:
    allocation, namespace = status.allocation, claim.metadata.namespace or "default"
    if allocation is not None:
        results = allocation.devices.results
        kept = None if results is None else [_result(result, naming) for result in results]
        allocation = Allocation(AllocatedDevices(kept))
    consumers = status.reserved_for
    return ClaimStatus(allocation, None if consumers is None else [_consumer(each, namespace, naming) for each in consumers])


def _result(result: Result, naming: Naming) -> Result:
    return structs.replace(result, pool=naming.name(Names.POOL, result.pool))


def _consumer(consumer: Consumer, namespace: str, naming: Naming) -> Consumer:
    uid = consumer.uid
    if naming.is_hidden:
        uid = naming.name(Names.KEY, uid or f"{namespace}/{consumer.name}")
    return Consumer(consumer.resource, naming.name(Names.POD, consumer.name), uid)


def _taint_rule(rule: DeviceTaintRule, naming: Naming) -> DeviceTaintRule:
    selector = rule.spec.device_selector
    if selector is not None and selector.pool is not None:
        selector = structs.replace(selector, pool=naming.name(Names.POOL, selector.pool))
    spec = structs.replace(rule.spec, device_selector=selector)
    return structs.replace(rule, metadata=kept_meta(rule.metadata, Names.OBJECT, naming), spec=spec)
