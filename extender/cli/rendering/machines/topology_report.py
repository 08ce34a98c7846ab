"""The answer of `topo show`: a machine's topology as plain data. Pure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from extender.decision.report.live.set_bandwidth import sizes_gbps
from topology.bandwidth.all_reduce import MESSAGE_MIXES
from topology.bandwidth.bottleneck import why
from topology.bandwidth.fabric import assumptions, fabric_name
from topology.contradictions import contradictions
from topology.machine.hardware import Machine, TopologyError, mask_of, positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.set_table import Placement
from topology.placement.shared_tables import table_for

MOST_LISTED = 1 << 16
"""Most subsets of a machine's GPUs that `all_sets` enumerates: those of sixteen GPUs."""


def machine_answer(name: str, machine: Machine, free: int | None = None, gpus: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Return the matrix, the best, expected and worst set per size within the mask `free` (None: all), and the set `gpus` if given.

    `bandwidth_gbps` is the bus bandwidth of rings and multicast for very large messages. If facts about the machine contradict each other,
    `bandwidth_range_gbps` of a set is [lowest, highest] over all readings of them. Raises TopologyError for an unknown GPU index.
    """
    table = table_for(machine)
    found_contradictions = contradictions(machine)
    readings = [table, *(table_for(contradiction.otherwise) for contradiction in found_contradictions)]
    whole = mask_of(range(len(machine.gpus)))
    free = whole if free is None else free
    answer: dict[str, Any] = {
        "name": name,
        "gpus": [gpu.index for gpu in machine.gpus],
        "product": machine.gpus[0].product if machine.gpus else None,
        "fabric": fabric_name(machine),
        "cpu_model": machine.cpu_model,
        "assumed": list(assumptions(machine, table.fabric)),
        "contradictions": [contradiction.says for contradiction in found_contradictions],
        "free": list(machine.indices(free)),
        "pairs": _pairs(machine, table),
        "sizes": [_size(machine, readings, free, size) for size in range(2, free.bit_count() + 1)],
    }
    if gpus is not None:
        answer["set"] = _set(machine, readings, mask_of(machine.positions(list(gpus))))
    return answer


def _pairs(machine: Machine, table: PlacementTable) -> list[list[dict[str, Any] | None]]:
    count = len(machine.gpus)
    cells: list[list[dict[str, Any] | None]] = [[None] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        speed = table.busbw_gbps(1 << a | 1 << b)
        cells[a][b] = cells[b][a] = {"link": str(table.fabric.links[a, b]), "bandwidth_gbps": speed}
    return cells


def _size(machine: Machine, readings: list[PlacementTable], free: int, size: int) -> dict[str, Any]:
    table = readings[0]
    extremes = table.extremes(free, size)
    assert extremes is not None
    outcomes = table.predictor.predict(free, ((size, False),)).outcomes
    expected = sum((table.busbw_gbps(o.taken) or 0.0) * o.probability for o in outcomes)
    return {
        "size": size,
        "best": _placement(machine, readings, extremes[0]),
        "expected_bandwidth_gbps": round(expected, 6),
        "worst": _placement(machine, readings, extremes[1]),
    }


def _placement(machine: Machine, readings: list[PlacementTable], placement: Placement) -> dict[str, Any]:
    answer = {"gpus": list(machine.indices(placement.mask)), "bandwidth_gbps": placement.busbw_gbps}
    return answer | _range(readings, placement.mask)


def _range(readings: list[PlacementTable], mask: int) -> dict[str, Any]:
    """Return `bandwidth_range_gbps` of a set, [lowest, highest] over all readings of its machine; empty if there is one reading."""
    speeds = [speed for reading in readings if (speed := reading.busbw_gbps(mask)) is not None]
    return {"bandwidth_range_gbps": [min(speeds), max(speeds)]} if len(readings) > 1 and speeds else {}


def _set(machine: Machine, readings: list[PlacementTable], mask: int) -> dict[str, Any]:
    table = readings[0]
    found = table.all_reduce(mask)
    return {
        "gpus": [machine.gpus[p].index for p in positions_of(mask)],
        "bandwidth_gbps": found.busbw_gbps if found else None,
        "busbw_gbps": sizes_gbps(found) if found else {},
        "effective_gbps": {name: round(found.effective_gbps(mix), 2) for name, mix in MESSAGE_MIXES.items()} if found else {},
        "latency_seconds": found.latency_seconds if found else None,
        "why": list(why(machine, table.fabric, positions_of(mask))),
        **_range(readings, mask),
    }


def all_sets(machine: Machine, most: int = MOST_LISTED) -> list[dict[str, Any]]:
    """Return every set of two or more GPUs, by size then indices, with its bus bandwidth in GB/s per message size.

    `bandwidth_gbps` is that of rings and multicast for very large messages; the value of a message size can exceed it, because it also
    considers trees. Raises TopologyError for a machine with more than `most` sets.
    """
    table, count = table_for(machine), len(machine.gpus)
    if 1 << count > most:
        raise TopologyError(f"{count} GPUs have {(1 << count) - count - 1} sets, more than the {most} that are listed")
    known: dict[int, dict[str, float]] = {}  # equivalent sets share one AllReduce object
    rows = []
    for size in range(2, count + 1):
        for members in combinations(range(count), size):
            speed = table.all_reduce(mask_of(members))
            assert speed is not None
            if id(speed) not in known:
                known[id(speed)] = sizes_gbps(speed)
            gpus = sorted(machine.gpus[p].index for p in members)
            rows.append({"gpus": gpus, "bandwidth_gbps": speed.busbw_gbps, "busbw_gbps": known[id(speed)]})
    return rows
