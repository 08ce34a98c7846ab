"""What a pod asks for by ResourceClaims, and what that means on one node.

Source: kubernetes 1.36 `plugins/dynamicresources/{claims,dynamicresources}.go`: claims are served in the order of `spec.resourceClaims`,
those that are allocated already are left as they are, and the claim for extended resources comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product

from extender.decision.dra.dra_node import DraNode, selected
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
    """What the claims mean on one node."""

    requests: DeviceRequests
    sizes: tuple[int, ...]
    """GPUs per group of containers."""
    total: int
    """GPUs altogether."""


def pod_claims(pod: Pod, dra: DraState, resource: str) -> PodClaims | None:
    """What the pod asks for by claims that are not allocated yet; None where it names none.

    `resource`: the extended resource that is counted elsewhere.
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
        named.add(key_of(claim.metadata))
        if claim.status.allocation is None:
            requests += _requests_of(claim, entry.name, groups[entry.name], numbers, dra.deviceclasses)
    requests += _implicit(pod, resource, len(entries), dra.deviceclasses)
    return PodClaims(tuple(requests), named=frozenset(named))


def _claim_of(entry: str, pod: Pod, dra: DraState) -> ResourceClaim | str:
    """The claim behind an entry of `spec.resourceClaims`, made from its template where it does not exist yet; a str says why not."""
    namespace = pod.metadata.namespace or "default"
    wanted = next(one for one in pod.spec.resource_claims or () if one.name == entry)
    made = {one.name: one.resource_claim_name for one in (pod.status.resource_claim_statuses or () if pod.status else ())}
    if name := wanted.resource_claim_name or made.get(entry):
        claim = dra.resourceclaims.get(f"{namespace}/{name}")
        return claim if claim is not None else f"ResourceClaim {namespace}/{name} is not known"
    if entry in made or not wanted.resource_claim_template_name:
        return ResourceClaim(pod.metadata)  # the claim controller says that none is needed
    template = dra.resourceclaimtemplates.get(f"{namespace}/{wanted.resource_claim_template_name}")
    if template is None:
        return f"ResourceClaimTemplate {namespace}/{wanted.resource_claim_template_name} is not known"
    return ResourceClaim(template.metadata, template.spec.spec)


def _groups(pod: Pod) -> dict[str, int]:
    """Name in `spec.resourceClaims` -> group. Claims that one container uses are in one group."""
    group = {entry.name: number for number, entry in enumerate(pod.spec.resource_claims or ())}
    for container in pod.spec.containers or ():
        used = [one.name for one in (container.resources.claims or () if container.resources else ()) if one.name in group]
        for name in used[1:]:
            old, new = group[name], group[used[0]]
            group = {key: new if value == old else value for key, value in group.items()}
    return group


def _requests_of(
    claim: ResourceClaim, name: str, group: int, numbers: Iterator[int], classes: Mapping[str, DeviceClass]
) -> list[tuple[RequestSpec, ...]]:
    constraints = [(next(numbers), one) for one in claim.spec.devices.constraints or ()]
    key = key_of(claim.metadata)
    found = []
    for request in claim.spec.devices.requests or ():
        alternatives = [request.exactly] if request.exactly is not None else list(request.first_available or ())
        specs = [_request(one, request, name, group, constraints, classes, key) for one in alternatives if not one.admin_access]
        if specs:
            found.append(tuple(specs))
    return found


def _request(
    one: ExactRequest,
    request: ClaimRequest,
    claim: str,
    group: int,
    constraints: list[tuple[int, Constraint]],
    classes: Mapping[str, DeviceClass],
    key: str,
) -> RequestSpec:
    own = (request.name, f"{request.name}/{one.name}")
    bearing = [(number, constraint) for number, constraint in constraints if not constraint.requests or {*own} & {*constraint.requests}]
    alike = tuple((number, constraint.match_attribute) for number, constraint in bearing if constraint.match_attribute is not None)
    beyond: str | None = None
    if len(alike) < len(bearing):
        beyond = "it has a constraint of a kind other than matchAttribute"
    elif one.capacity:
        beyond = "it asks for a part of a device's capacity"
    elif one.allocation_mode not in ("ExactCount", "All"):
        beyond = f"allocation mode {one.allocation_mode} is not known"
    expressions, unknown = _expressions(one.device_class_name, classes, one.selectors or ())
    return RequestSpec(
        f"{claim}/{one.name or request.name}",
        one.device_class_name,
        expressions,
        None if one.allocation_mode == "All" else 1 if one.count is None else one.count,
        tuple((each.key, each.operator, each.value, each.effect) for each in one.tolerations or ()),
        group,
        alike,
        unknown or beyond,
        key,
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
    """Requests for implicit extended resources (`deviceclass.resource.kubernetes.io/<class>`), sorted as kube-scheduler sorts them."""
    found = []
    for place, container in enumerate(_containers(pod)):
        requests = container.resources.requests or {} if container.resources else {}
        for number, name in enumerate(sorted(requests)):
            text = str(requests[name])
            if name.startswith(IMPLICIT_PREFIX) and name != resource and text.isascii() and text.isdigit() and int(text):
                class_name = name.removeprefix(IMPLICIT_PREFIX)
                expressions, unknown = _expressions(class_name, classes)
                spec = RequestSpec(name, class_name, expressions, int(text), group=first_group + place, beyond=unknown)
                found.append((f"container-{place}-request-{number}", (spec,)))
    return [spec for _, spec in sorted(found)]


def on_node(claims: PodClaims, node: DraNode, free: int) -> OnNode | str:
    """What the claims mean on the node, by the alternatives that fit what is free; a str says why that cannot be told.

    `free`: mask of free positions.
    """
    if claims.unknown is not None:
        return claims.unknown
    if node.devices.is_incomplete:
        return "; ".join(node.devices.problems)
    options: list[list[DeviceRequest]] = []
    for alternatives in claims.requests:
        resolved: list[DeviceRequest] = []
        for spec in alternatives:
            one = _resolved(spec, node)
            if isinstance(one, str):
                return f"{spec.name}: {one}"
            resolved.append(one)
        options.append(resolved)
    chosen = _chosen(options, node, free)
    sizes: dict[int, int] = {}
    for request in chosen:
        if request.group is not None:
            sizes[request.group] = sizes.get(request.group, 0) + request.count
    return OnNode(DeviceRequests(chosen, node.others), tuple(sizes[group] for group in sorted(sizes)), sum(sizes.values()))


def _chosen(options: list[list[DeviceRequest]], node: DraNode, free: int) -> tuple[DeviceRequest, ...]:
    """The first combination of alternatives that fits; where none does, the smallest."""
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
        return f"it asks for {count} devices, {MOST_RESULTS} are the most of a claim"
    alike = tuple(Alike(number, _equal(attribute, match.devices, node)) for number, attribute in spec.alike)
    return DeviceRequest(count, order, spec.group if gpus else None, alike)


def _equal(attribute: str, devices: Iterable[NodeDevice], node: DraNode) -> tuple[int, ...]:
    """Masks of the devices with the same value of the attribute. Values of different types are never equal."""
    found: dict[tuple[str, str], list[int]] = {}
    for device in devices:
        domain, name = qualified(attribute, device.driver)
        value = device.variables.get("attributes", {}).get(domain, {}).get(name)
        if value is not None and not isinstance(value, list):
            found.setdefault((type(value).__name__, str(value)), []).append(node.bits[device.id])
    return tuple(mask_of(bits) for bits in found.values())


def _tolerated(taint: tuple[str, str, str], tolerations: Iterable[tuple[str, str, str, str]]) -> bool:
    """Source: k8s.io/dynamic-resource-allocation v0.36.3 `resourceclaim` (ToleratesTaint)."""
    key, value, effect = taint
    return any(
        (not wanted_effect or wanted_effect == effect)
        and (not wanted_key or wanted_key == key)
        and (operator == "Exists" or (operator in ("", "Equal") and wanted_value == value))
        for wanted_key, operator, wanted_value, wanted_effect in tolerations
    )
