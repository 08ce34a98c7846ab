"""What a chosen set of a machine's GPUs reaches, and what limits it, for people. Pure."""

from __future__ import annotations

import msgspec

from extender.decision.report.live.machine_shape import edge_id
from topology.bandwidth.all_reduce import MESSAGE_MIXES, AllReduce
from topology.bandwidth.bottleneck import bottleneck
from topology.contradictions import contradictions
from topology.machine.hardware import Machine, mask_of
from topology.placement.placement_table import PlacementTable
from topology.placement.set_table import MOST_LISTED_GPUS
from topology.placement.shared_tables import table_for

MESSAGE_BYTES = {"32KiB": 32 << 10, "256KiB": 256 << 10, "1MiB": 1 << 20, "16MiB": 16 << 20, "256MiB": 256 << 20}
"""Message sizes that bandwidth is shown for: decode messages are the first three, prefill messages the last two."""


class BestSet(msgspec.Struct, frozen=True):
    """The fastest set of a size, of all GPUs of the machine, whether they are free or not."""

    gpus: tuple[int, ...]
    """nvidia-smi indices."""
    busbw_gbps: float | None


class SetBandwidth(msgspec.Struct, frozen=True):
    """The bandwidth of a set. The values in GB/s are None for a single GPU."""

    node: str
    gpus: tuple[int, ...]
    """nvidia-smi indices, ascending."""
    busbw_gbps: float | None
    """All-reduce bus bandwidth of rings and multicast for very large messages."""
    effective_gbps: float | None
    """The same over the mix of message sizes of setting `scoring.messages`."""
    effective_gbps_by_messages: dict[str, float]
    gbps_by_message_size: dict[str, float]
    bottleneck: str | None
    """The first of `sentences`."""
    sentences: tuple[str, ...]
    """What limits the set, the most important first."""
    limiting_edges: tuple[str, ...]
    """Ids of the edges of `MachineGraph` that the fastest rings fill."""
    range_gbps: tuple[float, float] | None
    """(lowest, highest) `busbw_gbps` over all readings of the machine, where its facts contradict each other."""
    best_of_size: BestSet | None
    """None also for a machine of more than eight GPUs that are hardly interchangeable: finding it takes seconds there."""


def set_bandwidth(node: str, machine: Machine, indices: tuple[int, ...], messages: str) -> SetBandwidth:
    """Return the bandwidth of a set of nvidia-smi indices. `messages`: a key of `MESSAGE_MIXES`.

    Raises TopologyError for an index that the machine does not have, and for one that is named twice.
    """
    positions = tuple(sorted(machine.positions(indices)))
    table, mask = table_for(machine), mask_of(positions)
    found = table.all_reduce(mask)
    limits = bottleneck(machine, table.fabric, positions)
    by_messages = {name: round(found.effective_gbps(mix), 2) for name, mix in MESSAGE_MIXES.items()} if found else {}
    return SetBandwidth(
        node=node,
        gpus=machine.indices(mask),
        busbw_gbps=found.busbw_gbps if found else None,
        effective_gbps=by_messages.get(messages),
        effective_gbps_by_messages=by_messages,
        gbps_by_message_size=sizes_gbps(found) if found else {},
        bottleneck=limits.sentences[0] if limits.sentences else None,
        sentences=limits.sentences,
        limiting_edges=tuple(edge_id(machine, wire) for wire in limits.wires),
        range_gbps=_range_gbps(machine, table, mask),
        best_of_size=_best(machine, table, len(positions)),
    )


def sizes_gbps(found: AllReduce) -> dict[str, float]:
    """Return message size -> bus bandwidth in GB/s, rounded to 0.01."""
    return {name: round(found.busbw(size), 2) for name, size in MESSAGE_BYTES.items()}


def _range_gbps(machine: Machine, table: PlacementTable, mask: int) -> tuple[float, float] | None:
    readings = [table, *(table_for(contradiction.otherwise) for contradiction in contradictions(machine))]
    speeds = [speed for reading in readings if (speed := reading.busbw_gbps(mask)) is not None]
    return (min(speeds), max(speeds)) if len(readings) > 1 and speeds else None


def _best(machine: Machine, table: PlacementTable, size: int) -> BestSet | None:
    if size < 2 or not (table.size <= MOST_LISTED_GPUS or table.sets.shares_kinds):
        return None
    extremes = table.extremes(mask_of(range(len(machine.gpus))), size)
    return None if extremes is None else BestSet(machine.indices(extremes[0].mask), extremes[0].busbw_gbps)
