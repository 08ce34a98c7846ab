"""Why a set of GPUs is as slow as it is, in sentences for people. GPUs are called by their nvidia-smi indices."""

from __future__ import annotations

import re
from itertools import combinations

from topology.bandwidth.all_reduce import packings, reduced
from topology.bandwidth.fabric import Fabric
from topology.bandwidth.ring_orders import over_nvlink
from topology.bandwidth.rings import FullWire, Packing, Path
from topology.machine.constants import HOST_BRIDGE_PENALTY
from topology.machine.hardware import Machine

_WORDS = {1: "once", 2: "twice"}


def why(machine: Machine, fabric: Fabric, members: tuple[int, ...]) -> tuple[str, ...]:
    """What limits two or more positions, most telling first; empty for a single GPU."""
    if len(members) < 2:
        return ()
    packed = packings(fabric, members)
    best = max(packed, key=lambda packing: packing.ring_gbps)
    found = reduced(fabric, members, packed)
    ports = [wire for wire in best.full if wire.name.startswith("nvswitch port")]
    said = [*_links(fabric, members, best), *(_crossing(wire) for wire in best.full if len(ports) < 2 or wire not in ports)]
    if len(ports) > 1:
        said.append(f"full: the NVSwitch ports of {len(ports)} GPUs, {ports[0].capacity_gbps:g} GB/s per direction")
    if best.wire_gbps > best.ring_gbps * 1.005:
        said.append(f"the wires could carry {best.wire_gbps:g} GB/s; channels of equal speed make {best.ring_gbps:g} of them")
    trees = [tree for way in found.ways if way.path is best.path for tree in (way.tree, way.split.tree if way.split else None)]
    if max((tree.gbps for tree in trees if tree), default=0.0) > 1.5 * best.ring_gbps:
        said.append("a tree crosses the slow cut once only, and is faster than the ring for large messages")
    if found.nvls_gbps is not None:
        said.append(f"NVSwitch multicast gives {found.nvls_gbps:g} GB/s, rings {found.ring_gbps:g}")
    return tuple(_by_index(machine, sentence) for sentence in said)


def _links(fabric: Fabric, members: tuple[int, ...], best: Packing) -> list[str]:
    joined = {pair: over_nvlink(fabric, *pair) for pair in combinations(members, 2)}
    if best.path is Path.NVLINK:
        return []
    if best.path is Path.DETOUR:
        apart = [f"GPU {a} and GPU {b}" for (a, b), linked in joined.items() if not linked]
        return [f"no NVLink joins {', '.join(apart)}: rings pass through a third GPU's links there"]
    if not any(joined.values()):
        return ["no two of these GPUs are joined by NVLink"]
    alone = [a for a in members if not any(linked for pair, linked in joined.items() if a in pair)]
    if alone:
        return [f"{', '.join(f'GPU {a}' for a in alone)} has no NVLink to the others" if len(alone) == 1 else _all_alone(alone)]
    return ["NVLink joins only parts of the set: no ring keeps to it"]


def _all_alone(alone: list[int]) -> str:
    return f"{', '.join(f'GPU {a}' for a in alone)} have no NVLink to the others"


def _crossing(wire: FullWire) -> str:
    """`ring crosses the socket link ... twice: 10 GB/s`."""
    times = wire.crossings
    if abs(times - round(times)) > 0.01:
        times /= HOST_BRIDGE_PENALTY
    if not wire.name.startswith(("socket", "uplink")):
        return f"full: {wire.name}, {wire.capacity_gbps:g} GB/s per direction"
    often = _WORDS.get(round(times), f"{times:.3g} times") if abs(times - round(times)) < 0.01 else f"{times:.1f} times on average"
    if wire.name.startswith("socket"):
        return f"ring crosses the socket link {often} ({wire.name.removeprefix('socket link ')}): {wire.capacity_gbps:g} GB/s per direction"
    return f"ring crosses the {wire.name} {often}: {wire.capacity_gbps:g} GB/s per direction"


def _by_index(machine: Machine, sentence: str) -> str:
    """Positions for indices in `GPU 3` and `NVLink 0-3`; they differ where a GPU is missing."""

    def index(found: re.Match[str]) -> str:
        return found[1] + re.sub(r"\d+", lambda place: str(machine.gpus[int(place[0])].index), found[2])

    return re.sub(r"(GPU |NVLink )(\d+(?:-\d+)?)", index, sentence)
