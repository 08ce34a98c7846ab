"""A machine's topology as plain data: what `topo show` prints. Pure."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

from topology.fabric import assumptions, fabric_name
from topology.hardware import Machine, mask_of, positions_of
from topology.placement import Placement, PlacementTable, table_for

MESSAGE_BYTES = {"32KiB": 32 << 10, "256KiB": 256 << 10, "1MiB": 1 << 20, "16MiB": 16 << 20, "256MiB": 256 << 20}
"""Decode messages are the first three, prefill messages the last two."""


def machine_answer(name: str, machine: Machine, free: int | None = None, gpus: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Matrix, best/expected/worst per size over `free` (default: all), and the set `gpus` (indices) if given.

    Raises TopologyError for an index the machine does not have.
    """
    table = table_for(machine)
    whole = mask_of(range(len(machine.gpus)))
    free = whole if free is None else free
    answer: dict[str, Any] = {
        "name": name,
        "gpus": [gpu.index for gpu in machine.gpus],
        "product": machine.gpus[0].product if machine.gpus else None,
        "fabric": fabric_name(machine),
        "cpu_model": machine.cpu_model,
        "assumed": list(assumptions(machine, table.fabric)),
        "free": list(machine.indices(free)),
        "pairs": _pairs(machine, table),
        "sizes": [_size(machine, table, free, size) for size in range(2, free.bit_count() + 1)],
    }
    if gpus is not None:
        answer["set"] = _set(machine, table, mask_of(machine.positions(list(gpus))))
    return answer


def _pairs(machine: Machine, table: PlacementTable) -> list[list[dict[str, Any] | None]]:
    count = len(machine.gpus)
    cells: list[list[dict[str, Any] | None]] = [[None] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        speed = table.busbw_gbps(1 << a | 1 << b)
        cells[a][b] = cells[b][a] = {"link": table.fabric.link_class[a, b], "bandwidth_gbps": speed}
    return cells


def _size(machine: Machine, table: PlacementTable, free: int, size: int) -> dict[str, Any]:
    found = table.extremes(free, size)
    assert found is not None
    outcomes = table.predictor.predict(free, ((size, False),)).outcomes
    expected = sum((table.busbw_gbps(o.taken) or 0.0) * o.probability for o in outcomes)
    return {
        "size": size,
        "best": _placement(machine, found[0]),
        "expected_bandwidth_gbps": round(expected, 6),
        "worst": _placement(machine, found[1]),
    }


def _placement(machine: Machine, placement: Placement) -> dict[str, Any]:
    return {"gpus": list(machine.indices(placement.mask)), "bandwidth_gbps": placement.busbw_gbps}


def _by_index(machine: Machine, wire: str) -> str:
    """A wire's name with nvidia-smi indices for positions; they differ where a GPU is missing."""
    if not wire.startswith("NVLink") and "GPU" not in wire:
        return wire
    return re.sub(r"\d+", lambda place: str(machine.gpus[int(place[0])].index), wire)


def _set(machine: Machine, table: PlacementTable, mask: int) -> dict[str, Any]:
    found = table.all_reduce(mask)
    return {
        "gpus": [machine.gpus[p].index for p in positions_of(mask)],
        "bandwidth_gbps": found.busbw_gbps if found else None,
        "busbw_gbps": {name: round(found.busbw(size), 3) for name, size in MESSAGE_BYTES.items()} if found else {},
        "latency_seconds": found.latency_seconds if found else None,
        "bottlenecks": [_by_index(machine, wire) for wire in found.bottlenecks] if found else [],
    }
