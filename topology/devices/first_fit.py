"""The devices that the structured allocator of Dynamic Resource Allocation chooses: the first solution of a depth-first search.

Source: k8s.io/dynamic-resource-allocation v0.36.3 `structured/internal/incubating/allocator_incubating.go` (allocateOne): requests in the
order of the claim, for each request the devices in the order of pools, slices and lists; the devices of one request are tried in ascending
order only; a choice that leaves a later request without devices is undone.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_STEPS = 20_000
"""Devices tried per search. kube-scheduler itself gives up after ten seconds; beyond this the outcome counts as unknown."""


@dataclass(frozen=True, slots=True)
class Alike:
    """A `matchAttribute` constraint of a claim on one node."""

    number: int
    """Which of the pod's constraints it is: requests with the same number choose from the same set."""
    sets: tuple[int, ...]
    """Masks of the devices that have the same value. A device in none of them does not have the attribute and is not eligible."""

    def set_of(self, bit: int) -> int:
        """Return the mask of devices with the same value as this device; 0 where it has none."""
        return next((mask for mask in self.sets if mask >> bit & 1), 0)


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One request of a claim, in terms of one node's devices."""

    count: int
    order: tuple[int, ...]
    """Bits of the eligible devices, in the allocator's order."""
    group: int | None = None
    """Containers that share devices have the same group; None for devices that are no GPUs."""
    alike: tuple[Alike, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceRequests:
    """All requests of a pod on one node, in the allocator's order."""

    requests: tuple[DeviceRequest, ...]
    others: int = 0
    """Mask of free devices that are no GPUs; their bits are above those of the GPUs."""


class SearchTooLongError(Exception):
    """The search did not end within its bound."""


def first_fit(free: int, requests: tuple[DeviceRequest, ...], most_steps: int = MOST_STEPS) -> tuple[int, ...] | None:
    """Return the mask of each request's devices out of the mask `free`; None where not all fit.

    Raises SearchTooLongError after `most_steps` devices were tried.
    """
    chosen = [0] * len(requests)
    left = most_steps

    def search(place: int, start: int, free: int, allowed: dict[int, int]) -> bool:
        nonlocal left
        if place == len(requests):
            return True
        request = requests[place]
        missing = request.count - chosen[place].bit_count()
        if not missing:
            return search(place + 1, 0, free, allowed)
        for at in range(start, len(request.order)):
            if len(request.order) - at < missing:
                return False
            bit = request.order[at]
            if not free >> bit & 1:
                continue
            left -= 1
            if left < 0:
                raise SearchTooLongError
            narrowed = _narrowed(allowed, request.alike, bit)
            if narrowed is None:
                continue
            chosen[place] |= 1 << bit
            if search(place, at + 1, free & ~(1 << bit), narrowed):
                return True
            chosen[place] &= ~(1 << bit)
        return False

    return tuple(chosen) if search(0, 0, free, {}) else None


def _narrowed(allowed: dict[int, int], alike: tuple[Alike, ...], bit: int) -> dict[int, int] | None:
    """Return the sets that later devices must come from once this device is chosen; None where a constraint forbids it."""
    if not alike:
        return allowed
    narrowed = dict(allowed)
    for constraint in alike:
        known = allowed.get(constraint.number)
        own = constraint.set_of(bit)
        if not own or (known is not None and not known >> bit & 1):
            return None
        if known is None:
            narrowed[constraint.number] = own
    return narrowed


def extended_resource_requests(steps: tuple[tuple[int, bool], ...], order: tuple[int, ...]) -> tuple[DeviceRequest, ...]:
    """Return the requests that kube-scheduler makes of an extended resource: one per container that stays, and one for what the
    largest init container needs beyond the containers after it.

    `steps`: (GPUs, whether it is an init container that ends) per container; `order`: bits of the devices of the class.
    Source: kubernetes 1.36 `plugins/dynamicresources/extendeddynamicresources.go` (createRequestsAndMappings): an init container uses the
    devices of the containers after it first. Requests are sorted by name, which begins with the container's place.
    """
    extra, place_of_extra = 0, 0
    for place, (size, ends) in enumerate(steps):
        if ends:
            beyond = size - sum(later for later, init in steps[place:] if not init)
            if beyond > extra:
                extra, place_of_extra = beyond, place
    requests: list[DeviceRequest] = []
    group = 0
    for place, (size, ends) in enumerate(steps):
        if not ends:
            requests.append(DeviceRequest(size, order, group))
            group += 1
        elif extra and place == place_of_extra:
            requests.append(DeviceRequest(extra, order))
    return tuple(requests)
