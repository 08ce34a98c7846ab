"""A demand on one node: the pod's claims in terms of the node's own devices."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.dra.claim_requests import OnNode, on_node
from extender.decision.node.node_state import NodeView
from extender.decision.request.pod_request import Demand
from topology.devices.first_fit import DeviceRequest, DeviceRequests, extended_resource_requests
from topology.machine.hardware import MAX_GPUS, mask_of

NO_OWN_DEVICES = "the node has no ResourceSlices with GPUs: the pod's claims are not ranked"
MAPPED_SLICES = "a DeviceClass serves {}, of which no prediction is made"


def is_same_on_every_node(demand: Demand) -> bool:
    """Whether `on_view` returns the demand itself for every node."""
    return demand.claims is None and not demand.slices


def on_view(demand: Demand, view: NodeView) -> Demand:
    """Return the demand as the node serves it; it depends on the demand and the view alone.

    Claims of which no prediction is made are left out, with the reason in `unranked`; so are extended resources of parts of GPUs
    (`Demand.slices`) that a DeviceClass serves on the node.
    """
    node = view.dra
    if node is not None and demand.slices:
        mapped = [resource for resource, _, _ in demand.slices if resource in node.mapped]
        if mapped:
            kept = tuple(each for each in demand.slices if each[0] not in mapped)
            demand = replace(demand, slices=kept, unranked=MAPPED_SLICES.format(", ".join(mapped)))
    if demand.claims is None:
        return demand
    if node is None:
        return replace(demand, claims=None, unranked=NO_OWN_DEVICES)
    free_sets = view.state.free_sets
    free = max(free_sets, key=lambda each: each[1])[0] if free_sets else mask_of(range(MAX_GPUS)) & ~node.held
    claims = on_node(demand.claims, node, free)
    if not isinstance(claims, OnNode):
        return replace(demand, claims=None, unranked=f"not ranked: {claims}")
    if not claims.total and not claims.requests.requests:
        return replace(demand, claims=None)
    own = extended_resource_requests(demand.steps, node.order)
    requests = DeviceRequests((*claims.requests.requests, *_after(own, claims.requests.requests)), claims.requests.others)
    steps = (*((size, False) for size in claims.sizes), *demand.steps)
    return replace(demand, claims=None, steps=steps, total=claims.total + demand.total, requests=requests)


def _after(own: tuple[DeviceRequest, ...], claims: tuple[DeviceRequest, ...]) -> tuple[DeviceRequest, ...]:
    """Return the requests for extended resources, whose claim is the last one, with groups of their own."""
    first = 1 + max((request.group for request in claims if request.group is not None), default=-1)
    return tuple(request if request.group is None else replace(request, group=request.group + first) for request in own)


def all_on_view(extra_pods: tuple[Demand, ...], view: NodeView) -> tuple[Demand, ...]:
    """Return the demands of further pods on the node, as the node serves them."""
    return tuple(on_view(demand, view) for demand in extra_pods)
