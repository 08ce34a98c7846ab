"""Which devices claims hold, and for which pods."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.dra.inventory import DeviceId
from extender.decision.dra.resource_objects import ResourceClaim, key_of
from extender.decision.request.resource_claims import MOST_RESULTS


@dataclass(frozen=True, slots=True)
class HeldDevices:
    """The devices of one allocated claim."""

    claim: str
    """namespace/name."""
    devices: tuple[DeviceId, ...]
    """Without those given for admin access, which hold nothing."""
    pods: tuple[tuple[str, str, str], ...]
    """(uid, namespace, name) of the pods it is reserved for; of the pod that owns it while it is reserved for none."""


def held_devices(claim: ResourceClaim) -> HeldDevices | None:
    """Return what a claim holds; None where it is not allocated or holds nothing."""
    allocation = claim.status.allocation
    if allocation is None:
        return None
    results = (allocation.devices.results or [])[:MOST_RESULTS]
    devices = tuple(dict.fromkeys((result.driver, result.pool, result.device) for result in results if not result.admin_access))
    namespace = claim.metadata.namespace or "default"
    consumers = [consumer for consumer in claim.status.reserved_for or () if consumer.resource == "pods"]
    owners = [owner for owner in claim.metadata.owner_references or () if owner.kind == "Pod" and owner.uid]
    pods = tuple((pod.uid or f"{namespace}/{pod.name}", namespace, pod.name) for pod in consumers or owners)
    return HeldDevices(key_of(claim.metadata), devices, pods) if devices else None


def pools_of(claim: ResourceClaim | None) -> set[tuple[str, str]]:
    """Return (driver, pool) of the devices that a claim is given."""
    allocation = claim.status.allocation if claim is not None else None
    return (
        {(result.driver, result.pool) for result in (allocation.devices.results or ())[:MOST_RESULTS]} if allocation is not None else set()
    )
