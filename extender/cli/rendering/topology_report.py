"""A machine's topology as plain data: what `topo show` prints. Pure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from topology.bandwidth.all_reduce import MESSAGE_MIXES, AllReduce
from topology.bandwidth.bottleneck import why
from topology.bandwidth.fabric import assumptions, fabric_name
from topology.contradictions import contradictions
from topology.machine.hardware import Machine, TopologyError, mask_of, positions_of
from topology.placement import Placement, PlacementTable, table_for

MESSAGE_BYTES = {"32KiB": 32 << 10, "256KiB": 256 << 10, "1MiB": 1 << 20, "16MiB": 16 << 20, "256MiB": 256 << 20}
"""Decode messages are the first three, prefill messages the last two."""

MOST_LISTED = 1 << 16
"""Sets that `all_sets` lists: all of sixteen GPUs."""


def machine_answer(name: str, machine: Machine, free: int | None = None, gpus: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Matrix, best/expected/worst per size over `free` (default: all), and the set `gpus` (indices) if given.

    `bandwidth_gbps` is what rings and multicast carry of very large messages. Where the machine contradicts itself,
    `bandwidth_range_gbps` of a set is [lowest, highest] over all readings. Raises TopologyError for an index the machine does not have.
    """
    table = table_for(machine)
    found = contradictions(machine)
    readings = [table, *(table_for(one.otherwise) for one in found)]
    whole = mask_of(range(len(machine.gpus)))
    free = whole if free is None else free
    answer: dict[str, Any] = {
        "name": name,
        "gpus": [gpu.index for gpu in machine.gpus],
        "product": machine.gpus[0].product if machine.gpus else None,
        "fabric": fabric_name(machine),
        "cpu_model": machine.cpu_model,
        "assumed": list(assumptions(machine, table.fabric)),
        "contradictions": [one.says for one in found],
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
    found = table.extremes(free, size)
    assert found is not None
    outcomes = table.predictor.predict(free, ((size, False),)).outcomes
    expected = sum((table.busbw_gbps(o.taken) or 0.0) * o.probability for o in outcomes)
    return {
        "size": size,
        "best": _placement(machine, readings, found[0]),
        "expected_bandwidth_gbps": round(expected, 6),
        "worst": _placement(machine, readings, found[1]),
    }


def _placement(machine: Machine, readings: list[PlacementTable], placement: Placement) -> dict[str, Any]:
    known = {"gpus": list(machine.indices(placement.mask)), "bandwidth_gbps": placement.busbw_gbps}
    return known | _range(readings, placement.mask)


def _range(readings: list[PlacementTable], mask: int) -> dict[str, Any]:
    """[lowest, highest] bandwidth of a set over all readings of its machine; empty where there is but one reading."""
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


def sizes_gbps(found: AllReduce) -> dict[str, float]:
    """Bus bandwidth per message size, to 10 MB/s."""
    return {name: round(found.busbw(size), 2) for name, size in MESSAGE_BYTES.items()}


def all_sets(machine: Machine, most: int = MOST_LISTED) -> list[dict[str, Any]]:
    """Every set of two or more GPUs, by size then indices, with its bus bandwidth per message size and, as `bandwidth_gbps`, what rings
    and multicast carry of very large messages. Trees count at a message size only, so that a size can exceed it.

    Raises TopologyError for a machine that has more than `most` sets.
    """
    table, count = table_for(machine), len(machine.gpus)
    if 1 << count > most:
        raise TopologyError(f"{count} GPUs have {(1 << count) - count - 1} sets, more than the {most} that are listed")
    known: dict[int, dict[str, float]] = {}  # sets that look alike share one performance
    found = []
    for size in range(2, count + 1):
        for members in combinations(range(count), size):
            speed = table.all_reduce(mask_of(members))
            assert speed is not None
            if id(speed) not in known:
                known[id(speed)] = sizes_gbps(speed)
            gpus = sorted(machine.gpus[p].index for p in members)
            found.append({"gpus": gpus, "bandwidth_gbps": speed.busbw_gbps, "busbw_gbps": known[id(speed)]})
    return found
