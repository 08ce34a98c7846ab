"""What a pod requests by ResourceClaims, and what that means on one node.

Source: kubernetes 1.36 `plugins/dynamicresources/{claims,dynamicresources}.go`: claims are served in the order of `spec.resourceClaims`,
those that are allocated already are left as they are, and the claim for extended resources comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product

from extender.decision.dra.dra_node import DraNode, in_doubt, selected
from extender.decision.dra.dra_state import IMPLICIT_PREFIX, DraState
from extender.decision.dra.inventory import NodeDevice
from extender.decision.dra.resource_objects import ClaimRequest, Constraint, DeviceClass, ExactRequest, ResourceClaim, Selector, key_of
from extender.decision.dra.selectors import qualified
from extender.decision.request.kubernetes_objects import Container, Pod
from extender.decision.request.resource_claims import MOST_RESULTS, PodClaims, RequestSpec
from topology.devices.first_fit import Alike, DeviceRequest, DeviceRequests, SearchTooLongError, first_fit
from topology.machine.hardware import MAX_GPUS, mask_of

MOST_ALTERNATIVES = 64
"""Combinations of prioritized lists that are tried on a node."""


@dataclass(frozen=True, slots=True)
class OnNode:
    """The requests of a pod's claims in terms of one node's devices."""

    requests: DeviceRequests
    sizes: tuple[int, ...]
    """GPUs per group of containers."""
    total: int
    """GPUs altogether."""


def pod_claims(pod: Pod, dra: DraState, resource: str) -> PodClaims | None:
    """Return what a pod requests by claims that are not allocated yet; None where it names no claim.

    `resource`: the extended resource that `Demand.total` counts.
    """
    entries = pod.spec.resource_claims or []
    if not entries and not any(name != resource and name.startswith(IMPLICIT_PREFIX) for name in _requested(pod)):
        return None
    requests: list[tuple[RequestSpec, ...]] = []
    numbers = iter(range(1_000_000))
    groups = _groups(pod)
    named: set[str] = set()
    for entry in entries:
        claim = _claim_of(entry.name, pod, dra)
        if isinstance(claim, str):
            return PodClaims(unknown=claim, is_lagging=dra.watched.get("resourceclaims", False))
        key = key_of(claim.metadata)
        named.add(key)
        if claim.status.allocation is None:
            origin = _Origin(entry.name, groups[entry.name], key if key in dra.resourceclaims else None)
            requests += _requests_of(claim, origin, numbers, dra.deviceclasses)
    requests += _implicit(pod, resource, len(entries), dra.deviceclasses)
    return PodClaims(tuple(requests), named=frozenset(named))


def _claim_of(entry: str, pod: Pod, dra: DraState) -> ResourceClaim | str:
    """Return the claim behind an entry of `spec.resourceClaims`, or as its template states it; a str states why it is not known."""
    namespace = pod.metadata.namespace or "default"
    wanted = next(claim for claim in pod.spec.resource_claims or () if claim.name == entry)
    made = {status.name: status.resource_claim_name for status in (pod.status.resource_claim_statuses or () if pod.status else ())}
    if name := wanted.resource_claim_name or made.get(entry):
        claim = dra.resourceclaims.get(f"{namespace}/{name}")
        return claim if claim is not None else f"ResourceClaim {namespace}/{name} is not known"
    if entry in made or not wanted.resource_claim_template_name:
        return ResourceClaim(pod.metadata)  # the claim controller states that none is needed
    template = dra.resourceclaimtemplates.get(f"{namespace}/{wanted.resource_claim_template_name}")
    if template is None:
        return f"ResourceClaimTemplate {namespace}/{wanted.resource_claim_template_name} is not known"
    return ResourceClaim(template.metadata, template.spec.spec)


def _groups(pod: Pod) -> dict[str, int]:
    """Return name in `spec.resourceClaims` -> group. Claims that one container uses are in one group."""
    group = {entry.name: number for number, entry in enumerate(pod.spec.resource_claims or ())}
    for container in pod.spec.containers or ():
        used = [claim.name for claim in (container.resources.claims or () if container.resources else ()) if claim.name in group]
        for name in used[1:]:
            old, new = group[name], group[used[0]]
            group = {key: new if value == old else value for key, value in group.items()}
    return group


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a request is from."""

    entry: str
    """Name in `spec.resourceClaims`."""
    group: int
    claim: str | None
    """namespace/name of the claim; None where it does not exist yet."""


def _requests_of(
    claim: ResourceClaim, origin: _Origin, numbers: Iterator[int], classes: Mapping[str, DeviceClass]
) -> list[tuple[RequestSpec, ...]]:
    """Return the alternatives of each request of a claim, without those for admin access."""
    constraints = [(next(numbers), constraint) for constraint in claim.spec.devices.constraints or ()]
    requests = []
    for request in claim.spec.devices.requests or ():
        alternatives = [request.exactly] if request.exactly is not None else list(request.first_available or ())
        specs = [_request(exact, request, origin, constraints, classes) for exact in alternatives if not exact.admin_access]
        if specs:
            requests.append(tuple(specs))
    return requests


def _request(
    exact: ExactRequest,
    request: ClaimRequest,
    origin: _Origin,
    constraints: list[tuple[int, Constraint]],
    classes: Mapping[str, DeviceClass],
) -> RequestSpec:
    names = {request.name, f"{request.name}/{exact.name}"}
    bearing = [(number, constraint) for number, constraint in constraints if not constraint.requests or names & {*constraint.requests}]
    alike = tuple((number, constraint.match_attribute) for number, constraint in bearing if constraint.match_attribute is not None)
    beyond: str | None = None
    if len(alike) < len(bearing):
        beyond = "it has a constraint of a kind other than matchAttribute"
    elif exact.capacity:
        beyond = "it requests a part of a device's capacity"
    elif exact.allocation_mode not in ("ExactCount", "All"):
        beyond = f"allocation mode {exact.allocation_mode} is not known"
    expressions, unknown = _expressions(exact.device_class_name, classes, exact.selectors or ())
    return RequestSpec(
        name=f"{origin.entry}/{exact.name or request.name}",
        device_class=exact.device_class_name,
        expressions=expressions,
        count=None if exact.allocation_mode == "All" else 1 if exact.count is None else exact.count,
        tolerations=tuple((each.key, each.operator, each.value, each.effect) for each in exact.tolerations or ()),
        group=origin.group,
        alike=alike,
        beyond=unknown or beyond,
        claim=origin.claim,
    )


def _expressions(name: str, classes: Mapping[str, DeviceClass], own: Iterable[Selector] = ()) -> tuple[tuple[str, ...], str | None]:
    """Return (CEL selectors of a class and of a request, why they are not known)."""
    device_class = classes.get(name)
    if device_class is None:
        return (), f"DeviceClass {name} does not exist"
    selectors = [*(device_class.spec.selectors or ()), *own]
    if any(selector.cel is None for selector in selectors):
        return (), "it has a selector of a kind other than CEL"
    return tuple(selector.cel.expression for selector in selectors if selector.cel is not None), None


def _requested(pod: Pod) -> set[str]:
    return {name for container in _containers(pod) if container.resources for name in container.resources.requests or ()}


def _containers(pod: Pod) -> Iterable[Container]:
    return [*(pod.spec.init_containers or ()), *(pod.spec.containers or ())]


def _implicit(pod: Pod, resource: str, first_group: int, classes: Mapping[str, DeviceClass]) -> list[tuple[RequestSpec, ...]]:
    """Return requests for implicit extended resources (`deviceclass.resource.kubernetes.io/<class>`), sorted as by kube-scheduler."""
    named_requests = []
    for place, container in enumerate(_containers(pod)):
        requests = container.resources.requests or {} if container.resources else {}
        for number, name in enumerate(sorted(requests)):
            text = str(requests[name])
            if name.startswith(IMPLICIT_PREFIX) and name != resource and text.isascii() and text.isdigit() and int(text):
                class_name = name.removeprefix(IMPLICIT_PREFIX)
                expressions, unknown = _expressions(class_name, classes)
                spec = RequestSpec(name, class_name, expressions, int(text), group=first_group + place, beyond=unknown)
                named_requests.append((f"container-{place}-request-{number}", (spec,)))
    return [spec for _, spec in sorted(named_requests)]


def on_node(claims: PodClaims, node: DraNode, free: int) -> OnNode | str:
    """Return the requests in terms of the node's devices, by the alternatives that fit `free`; a str states why that is not known.

    `free`: mask of free positions.
    """
    if claims.unknown is not None:
        return claims.unknown
    options: list[list[DeviceRequest]] = []
    for alternatives in claims.requests:
        resolved: list[DeviceRequest] = []
        for spec in alternatives:
            request = _resolved(spec, node)
            if isinstance(request, str):
                return f"{spec.name}: {request}"
            resolved.append(request)
        options.append(resolved)
    chosen = _chosen(options, node, free)
    sizes: dict[int, int] = {}
    for request in chosen:
        if request.group is not None:
            sizes[request.group] = sizes.get(request.group, 0) + request.count
    return OnNode(DeviceRequests(chosen, node.others), tuple(sizes[group] for group in sorted(sizes)), sum(sizes.values()))


def _chosen(options: list[list[DeviceRequest]], node: DraNode, free: int) -> tuple[DeviceRequest, ...]:
    """Return the first combination of alternatives that fits; where none does, the smallest."""
    combinations = list(islice(product(*options), MOST_ALTERNATIVES))
    if len(combinations) == 1:
        return combinations[0]
    for requests in combinations:
        try:
            if first_fit(free | node.others, requests) is not None:
                return requests
        except SearchTooLongError:
            break
    return min(combinations, key=lambda requests: sum(request.count for request in requests))


def _resolved(spec: RequestSpec, node: DraNode) -> DeviceRequest | str:
    if spec.beyond is not None:
        return spec.beyond
    doubt = in_doubt(node.devices, spec.expressions)
    if doubt is not None:
        return doubt
    match = selected(node.devices, spec.expressions, spec.device_class)
    if match.unknown is not None:
        return match.unknown
    if not match.devices:
        return "no device of the node's own slices matches"
    if any(device.is_partial or (device.counter_sets and not device.is_gpu) for device in match.devices):
        return "it selects parts of GPUs, of which no prediction is made"
    if any(device.taints and all(_tolerated(taint, spec.tolerations) for taint in device.taints) for device in match.devices):
        return "it tolerates the taint of a device"
    order = tuple(node.bits[device.id] for device in match.devices)
    gpus = [bit for bit in order if bit < MAX_GPUS]
    if gpus and len(gpus) < len(order):
        return "it selects GPUs and other devices"
    count = len(order) if spec.count is None else spec.count
    if count > MOST_RESULTS:
        return f"it requests {count} devices, {MOST_RESULTS} are the most of a claim"
    alike = tuple(Alike(number, _equal(attribute, match.devices, node)) for number, attribute in spec.alike)
    return DeviceRequest(count, order, spec.group if gpus else None, alike)


def _equal(attribute: str, devices: Iterable[NodeDevice], node: DraNode) -> tuple[int, ...]:
    """Return masks of the devices with the same value of the attribute. Values of different types are never equal."""
    bits_of_value: dict[tuple[str, str], list[int]] = {}
    for device in devices:
        domain, name = qualified(attribute, device.driver)
        value = device.variables.get("attributes", {}).get(domain, {}).get(name)
        if value is not None and not isinstance(value, list):
            bits_of_value.setdefault((type(value).__name__, str(value)), []).append(node.bits[device.id])
    return tuple(mask_of(bits) for bits in bits_of_value.values())


def _tolerated(taint: tuple[str, str, str], tolerations: Iterable[tuple[str, str, str, str]]) -> bool:
    """Whether a taint is tolerated. Source: k8s.io/dynamic-resource-allocation v0.36.3 `resourceclaim` (ToleratesTaint)."""
    key, value, effect = taint
    return any(
        (not wanted_effect or wanted_effect == effect)
        and (not wanted_key or wanted_key == key)
        and (operator == "Exists" or (operator in ("", "Equal") and wanted_value == value))
        for wanted_key, operator, wanted_value, wanted_effect in tolerations
    )
