"""The devices that a container gets on a node with a steerer: one pure function, by which the node answers and the extender predicts.

Sets of devices are bit masks of positions, as everywhere in `topology`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

from topology.devices.size_mix import EVEN_MIX, SizeMix
from topology.machine.hardware import Machine, mask_of, positions_of

DEFAULT_MESSAGES = "mixed"
"""The message sizes that a set's bandwidth is weighed over, as `bandwidth.mix_of` names them."""

CROWDED_BYTES = 1 << 30
"""Memory of unknown processes from which a device is avoided. Below it: drivers, display servers, what a persistence daemon keeps."""

MOST_CANDIDATES = 4_096
"""Sets that are compared for one answer: some 20 ms. Eight different GPUs have at most 70; more means: no answer."""

_GBPS_DIGITS, _CAPABILITY_DIGITS = 3, 6
"""Differences below these decimals are noise of the arithmetic, not reasons."""


class SetValues(Protocol):
    """What sets of a machine's devices are worth."""

    @property
    def interchangeable(self) -> tuple[int, ...]:
        """Masks that divide the machine: exchanging two devices of one mask changes no value."""

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        """All-reduce bandwidth in GB/s over a mix of messages; None for fewer than two devices."""

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """What these devices are good for to later pods, 0..1; `mix` weights the sizes of those pods."""


@dataclass(frozen=True, slots=True)
class KnownDevices:
    """What is known of a machine's devices beyond their links. Tuples are per position; a shorter one says nothing of the rest."""

    excluded: int = 0
    """Mask of devices that are unfit for use. The kubelet may offer them all the same."""
    unknown_memory_bytes: tuple[int, ...] = ()
    """Memory that processes of no known pod hold."""
    pressure: tuple[float, ...] = ()
    """Load that is not the new pod's, 0..1."""

    @property
    def crowded(self) -> int:
        """Mask of devices on which unknown processes hold `CROWDED_BYTES` or more."""
        return sum(1 << position for position, held in enumerate(self.unknown_memory_bytes) if held >= CROWDED_BYTES)

    def pressure_of(self, position: int) -> float:
        """The pressure of one device; 0 where it is not known."""
        return self.pressure[position] if position < len(self.pressure) else 0.0


def known_devices(
    machine: Machine, unhealthy: Iterable[int], unknown_memory_bytes: Mapping[int, int], pressure: Mapping[int, float]
) -> KnownDevices:
    """What is known of a machine's devices, from what the agent observed by nvidia-smi index. Both sides build it by this function."""
    return KnownDevices(
        mask_of(machine.positions(sorted(set(unhealthy)))),
        tuple(unknown_memory_bytes.get(gpu.index, 0) for gpu in machine.gpus),
        tuple(pressure.get(gpu.index, 0.0) for gpu in machine.gpus) if pressure else (),
    )


NOTHING_KNOWN = KnownDevices()


@dataclass(frozen=True, slots=True)
class Steering:
    """What an answer depends on beside the request and the machine. The node's agent publishes it, so both sides have the same."""

    known: KnownDevices = NOTHING_KNOWN
    messages: str = DEFAULT_MESSAGES
    size_mix: SizeMix = EVEN_MIX


@dataclass(frozen=True, slots=True)
class DecidedFor:
    """What the devices of a pod are decided for, beside what is known of them. None: the steerer's own (`Steering`)."""

    messages: str | None = None
    size_mix: SizeMix | None = None

    def applied_to(self, steering: Steering) -> Steering:
        """Return what the answer for the pod depends on; `steering` itself where the pod states nothing else."""
        messages, size_mix = self.messages or steering.messages, self.size_mix or steering.size_mix
        if (messages, size_mix) == (steering.messages, steering.size_mix):
            return steering
        return replace(steering, messages=messages, size_mix=size_mix)


STEERERS_OWN = DecidedFor()


def reused_within(steps: Sequence[tuple[int, bool]], place: int) -> int:
    """How many devices the largest container has that reuses those of the container at `place`; 0 where they suffice for it.

    `steps`: (devices, whether it is an init container that ends) in the order in which the kubelet serves them. What an init container
    that ends has had, the containers after it must have, up to the first one that stays.
    """
    size, ends = steps[place]
    largest = size
    for later, goes_on in steps[place + 1 :] if ends else ():
        largest = max(largest, later)
        if not goes_on:
            break
    return largest if largest > size else 0


def steered_set(values: SetValues, offered: int, required: int, size: int, steering: Steering, reused: int = 0) -> int | None:
    """The set of `size` devices out of `offered` that contains `required`; None where there is none, or too many would be compared.

    `reused`: so many devices has a larger container that must have these (`reused_within`): they are then of the set that is best for it.

    In this order: fewest excluded devices, fewest on which unknown processes hold memory, highest bandwidth, most capability left
    among the offered devices, least memory of unknown processes, least pressure, lowest positions.

    Of a machine with more than `MOST_CANDIDATES` kinds of sets None, whatever is offered: the agent tells a steerer no table of it.
    """
    if not has_table(values):
        return None
    needed = size - required.bit_count()
    if size < 1 or needed < 0 or required & ~offered or size > offered.bit_count():
        return None
    if reused > size:
        larger = steered_set(values, offered, required, reused, steering)
        if larger is not None:
            offered = larger
    groups = next(
        (
            groups
            for is_fine in (True, False)
            if _ways(groups := _groups(values, offered & ~required, steering.known, is_fine), needed) <= MOST_CANDIDATES
        ),
        None,
    )
    if groups is None:
        return None
    mix = dict(steering.size_mix)

    def rank(mask: int) -> tuple[object, ...]:
        gbps = values.effective_gbps(mask, steering.messages) or 0.0
        left = values.capability(offered & ~mask, mix)
        return (*avoided(mask, steering.known), -round(gbps, _GBPS_DIGITS), -round(left, _CAPABILITY_DIGITS), *_load(mask, steering.known))

    return min(
        (chosen | required for chosen in _candidates(groups, needed)), key=lambda mask: (rank(mask), positions_of(mask)), default=None
    )


def has_table(values: SetValues) -> bool:
    """Whether a machine has few enough kinds of sets for a steerer to know the value of each."""
    return prod(members.bit_count() + 1 for members in values.interchangeable) <= MOST_CANDIDATES


def avoided(mask: int, known: KnownDevices) -> tuple[int, int]:
    """How many devices of a set are excluded, and on how many unknown processes hold memory. Less is better, the first number first."""
    return (mask & known.excluded).bit_count(), (mask & known.crowded).bit_count()


def _load(mask: int, known: KnownDevices) -> tuple[int, float]:
    held = known.unknown_memory_bytes
    positions = positions_of(mask)
    memory_bytes = sum(held[position] for position in positions if position < len(held))
    return memory_bytes // CROWDED_BYTES, round(sum(known.pressure_of(position) for position in positions), 6)


def _groups(values: SetValues, free: int, known: KnownDevices, is_fine: bool) -> list[tuple[int, ...]]:
    """The free devices divided into groups of positions, of which the first are to be taken first.

    Fine: nothing tells the devices of a group from one another. Else they differ in load alone, and those with the least come first.
    """
    found: dict[tuple[object, ...], list[int]] = {}
    held = known.unknown_memory_bytes

    def load(position: int) -> tuple[float, ...]:
        return held[position] if position < len(held) else 0, known.pressure_of(position)

    for place, members in enumerate(values.interchangeable):
        for position in positions_of(members & free):
            look: tuple[object, ...] = (place, avoided(1 << position, known), load(position) if is_fine else None)
            found.setdefault(look, []).append(position)
    return [tuple(sorted(group, key=lambda position: (load(position), position))) for group in found.values()]


def _ways(groups: list[tuple[int, ...]], needed: int) -> int:
    """In how many ways `needed` devices can be divided among the groups."""
    ways = [1] + [0] * needed
    for group in groups:
        ways = [sum(ways[max(0, count - len(group)) : count + 1]) for count in range(needed + 1)]
    return ways[needed]


def _candidates(groups: list[tuple[int, ...]], needed: int) -> Iterator[int]:
    """One set of `needed` devices for every way to divide them among the groups: of each group the first ones."""
    if not groups:
        yield 0  # the bounds below leave nothing to be divided
        return
    first, rest = groups[0], groups[1:]
    for count in range(max(0, needed - sum(map(len, rest))), min(needed, len(first)) + 1):
        part = sum(1 << position for position in first[:count])
        for others in _candidates(rest, needed - count):
            yield part | others
