"""A request of the kubelet -> the devices to answer, or the reason why NVIDIA's answer is forwarded. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from extender.steering.choice.waiting_pods import Waiting
from topology.devices.facts_file import DeviceFacts
from topology.devices.size_mix import SizeMix
from topology.devices.steering import DecidedFor, avoided, steered_set
from topology.machine.hardware import mask_of


class Reason(StrEnum):
    """Why an answer of NVIDIA's plugin is forwarded."""

    MIG = "mig"
    SHARED = "shared"
    """Replicas of one device, by time-slicing or MPS."""
    NO_FACTS = "no_facts"
    """The agent has written nothing about this node's devices, or nothing that can be used."""
    OLD_FACTS = "old_facts"
    UNKNOWN_DEVICE = "unknown_device"
    TOO_MANY_SETS = "too_many_sets"
    SEVERAL_CONTAINERS = "several_containers"
    """One request about more than one container: the kubelet sends none such today."""
    IMPOSSIBLE = "impossible"
    """No set has the requested size, lies within the offered devices and holds the required ones."""
    TIMEOUT = "timeout"
    ERROR = "error"


class Basis(StrEnum):
    """What a steered answer rests on."""

    DECISION = "decision"
    """The recorded decision about the pod that asks."""
    FUNCTION = "function"
    """`topology.devices.steering.steered_set`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the kubelet asks for one container."""

    offered: tuple[str, ...]
    required: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Exactly as many device ids as were requested."""

    ids: tuple[str, ...]
    basis: Basis


def not_for_us(request: Request) -> Reason | None:
    """Why a request does not concern whole devices; None where it does."""
    ids = (*request.offered, *request.required)
    if any("::" in device for device in ids):
        return Reason.SHARED
    return Reason.MIG if any(device.startswith("MIG-") for device in ids) else None


def choose(request: Request, facts: DeviceFacts, candidates: Iterable[Waiting]) -> Answer | Reason:
    """The answer. `candidates`: the containers that may be the one that asks, in the order in which the kubelet admits their pods."""
    positions = [facts.positions.get(device) for device in request.offered]
    required = [facts.positions.get(device) for device in request.required]
    if None in positions or None in required:
        return Reason.UNKNOWN_DEVICE
    ids = {position: device for position, device in zip(positions, request.offered, strict=True) if position is not None}
    offered, must = mask_of([p for p in positions if p is not None]), mask_of([p for p in required if p is not None])
    if len(ids) != len(request.offered) or must & ~offered or not must.bit_count() <= request.size <= len(ids) or request.size < 1:
        return Reason.IMPOSSIBLE
    candidates = tuple(candidates)
    steering = DecidedFor(size_mix=_size_mix(candidates)).applied_to(facts.steering)
    usual = steered_set(facts.table, offered, must, request.size, steering, _reused(candidates))
    if usual is None:
        return Reason.TOO_MANY_SETS
    decided = _decided(request.size, offered, must, usual, facts, candidates)
    chosen = usual if decided is None else decided
    answer = tuple(device for position, device in sorted(ids.items()) if chosen >> position & 1)
    return Answer(answer, Basis.FUNCTION if decided is None else Basis.DECISION)


def _reused(candidates: Iterable[Waiting]) -> int:
    """How many devices the container has that must have those of the one that asks, where all that may ask agree on it; else 0."""
    found = {(candidate.pod.demand, candidate.reused) for candidate in candidates if candidate.asks}
    return found.pop()[1] if len(found) == 1 else 0


def _size_mix(candidates: Iterable[Waiting]) -> SizeMix | None:
    """The mix that the pod that asks records: that of all that may ask or, as for decided sets, of one of several with equal demand."""
    asking = [candidate.pod for candidate in candidates if candidate.asks]
    is_certain = len({pod.size_mix for pod in asking}) == 1 or len({pod.demand for pod in asking}) == 1
    return asking[0].size_mix if is_certain else None


def _decided(size: int, offered: int, must: int, usual: int, facts: DeviceFacts, candidates: Iterable[Waiting]) -> int | None:
    """The decided set of the container that asks, as far as it is known which one that is; None: none is known.

    A container whose decided set the kubelet does not offer, or that is worse by what is known of the devices now, is not reckoned with.
    """
    place = {index: position for position, index in enumerate(facts.indices)}
    least = avoided(usual, facts.steering.known)
    sets: list[int | None] = []
    demands = set()
    for candidate in candidates:
        mask = None
        if candidate.decided is not None:
            if any(index not in place for index in candidate.decided):
                continue
            mask = mask_of([place[index] for index in candidate.decided])
            if mask.bit_count() != size or mask & ~offered or must & ~mask or avoided(mask, facts.steering.known) > least:
                continue
        sets.append(mask)
        demands.add(candidate.pod.demand)
    return next((mask for mask in sets if mask is not None), None) if len(demands) == 1 else None


def completed(answer: Collection[str], request: Request) -> tuple[str, ...]:
    """A plugin's answer made into one that fails no pod: exactly `size` different ids out of the offered, the required among them.

    The plugin may name none (it does not answer), too many, or a device that is not offered.
    """
    offered = set(request.offered)
    wanted = dict.fromkeys([*request.required, *(device for device in answer if device in offered), *request.offered])
    return tuple(wanted)[: request.size]
