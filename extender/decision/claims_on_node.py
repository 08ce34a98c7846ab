"""What a pod's claims mean on one node: its demand with the node's own devices in it."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.cluster import NodeView
from extender.decision.demand import Demand
from extender.decision.dra.requests import OnNode, on_node
from extender.decision.dra.state import DraState
from topology.devices.first_fit import DeviceRequest, DeviceRequests, extended_resource_requests
from topology.hardware import MAX_GPUS, mask_of

NO_OWN_DEVICES = "the node has no ResourceSlices with GPUs: its claims are not ranked"
MAPPED_SLICES = "a DeviceClass serves {}, of which no prediction is made"


def for_node(demand: Demand, view: NodeView, dra: DraState) -> Demand:
    """The demand as the node can serve it. Claims of which no prediction can be made are left out, with the reason in `unranked`.

    Extended resources of parts of GPUs (`Demand.slices`) that a DeviceClass serves on the node are left out too.
    """
    node = view.dra
    if node is not None and demand.slices:
        mapped = [resource for resource, _, _ in demand.slices if dra.maps(resource)]
        if mapped:
            kept = tuple(one for one in demand.slices if one[0] not in mapped)
            demand = replace(demand, slices=kept, unranked=MAPPED_SLICES.format(", ".join(mapped)))
    if demand.claims is None:
        return demand
    if node is None:
        return replace(demand, claims=None, unranked=NO_OWN_DEVICES)
    free = max(view.state.beliefs, key=lambda belief: belief[1])[0] if view.state.beliefs else mask_of(range(MAX_GPUS)) & ~node.held
    found = on_node(demand.claims, node, dra.deviceclasses, free)
    if not isinstance(found, OnNode):
        return replace(demand, claims=None, unranked=f"not ranked: {found}")
    if not found.total and not found.requests.requests:
        return replace(demand, claims=None)
    own = extended_resource_requests(demand.steps, node.order)
    requests = DeviceRequests((*found.requests.requests, *_after(own, found.requests.requests)), found.requests.others)
    steps = (*((size, False) for size in found.sizes), *demand.steps)
    return replace(demand, claims=None, steps=steps, total=found.total + demand.total, requests=requests)


def _after(own: tuple[DeviceRequest, ...], claims: tuple[DeviceRequest, ...]) -> tuple[DeviceRequest, ...]:
    """The requests of extended resources, whose claim comes last, with groups of their own."""
    first = 1 + max((one.group for one in claims if one.group is not None), default=-1)
    return tuple(one if one.group is None else replace(one, group=one.group + first) for one in own)


def guests_on(guests: tuple[Demand, ...], view: NodeView, dra: DraState) -> tuple[Demand, ...]:
    """The same of further pods on the node."""
    return tuple(for_node(guest, view, dra) for guest in guests)
