"""Which devices claims hold, and for which pods."""

from __future__ import annotations

from collections.abc import Iterable
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
    """What a claim holds, or None where it is not allocated or holds nothing."""
    allocation = claim.status.allocation
    if allocation is None:
        return None
    results = (allocation.devices.results or [])[:MOST_RESULTS]
    devices = tuple(dict.fromkeys((one.driver, one.pool, one.device) for one in results if not one.admin_access))
    namespace = claim.metadata.namespace or "default"
    consumers = [one for one in claim.status.reserved_for or () if one.resource == "pods"]
    owners = [one for one in claim.metadata.owner_references or () if one.kind == "Pod" and one.uid]
    pods = tuple((one.uid or f"{namespace}/{one.name}", namespace, one.name) for one in consumers or owners)
    return HeldDevices(key_of(claim.metadata), devices, pods) if devices else None


def pools_of(claim: ResourceClaim | None) -> set[tuple[str, str]]:
    """(driver, pool) of the devices that a claim is given."""
    allocation = claim.status.allocation if claim is not None else None
    return {(one.driver, one.pool) for one in (allocation.devices.results or ())[:MOST_RESULTS]} if allocation is not None else set()


def holders(held: Iterable[HeldDevices]) -> frozenset[str]:
    """Uids of the pods that claims are reserved for."""
    return frozenset(pod[0] for one in held for pod in one.pods)
