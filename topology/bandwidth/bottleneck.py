"""Why a set of GPUs is as slow as it is, in sentences for people. Sentences name GPUs by their nvidia-smi index."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from topology.bandwidth.all_reduce import packings, performance
from topology.bandwidth.fabric import Fabric
from topology.bandwidth.ring_orders import over_nvlink
from topology.bandwidth.rings import FullWire, Packing, Path
from topology.bandwidth.wires import Wire, WireKind
from topology.machine.constants import HOST_BRIDGE_PENALTY
from topology.machine.hardware import Machine

_TIMES_WORDS = {1: "once", 2: "twice"}


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limits a set of GPUs."""

    sentences: tuple[str, ...]
    """The most important first."""
    wires: tuple[Wire, ...]
    """Those that the fastest rings fill."""


def why(machine: Machine, fabric: Fabric, members: tuple[int, ...]) -> tuple[str, ...]:
    """Return what limits a set of positions, the most important sentence first; empty for a single GPU."""
    return bottleneck(machine, fabric, members).sentences


def bottleneck(machine: Machine, fabric: Fabric, members: tuple[int, ...]) -> Bottleneck:
    """Return what limits a set of positions; nothing limits a single GPU."""
    if len(members) < 2:
        return Bottleneck((), ())
    packed = packings(fabric, members)
    best = _fastest(packed)
    return Bottleneck(_sentences(machine, fabric, members, packed, best), tuple(fabric.wires[wire.name] for wire in best.full))


def _sentences(machine: Machine, fabric: Fabric, members: tuple[int, ...], packed: tuple[Packing, ...], best: Packing) -> tuple[str, ...]:
    reached = performance(fabric, members, packed)
    ports = [wire for wire in best.full if fabric.wires[wire.name].kind is WireKind.NVSWITCH_PORT]
    named_wires = best.full if len(ports) < 2 else [wire for wire in best.full if wire not in ports]
    sentences = [*_missing_links(machine, fabric, members, best)]
    sentences += [_full_wire(wire, fabric.wires[wire.name], machine) for wire in named_wires]
    if len(ports) > 1:
        sentences.append(f"full: the NVSwitch ports of {len(ports)} GPUs, {ports[0].capacity_gbps:g} GB/s per direction")
    if best.wire_gbps > best.ring_gbps * 1.005:
        sentences.append(f"the wires could carry {best.wire_gbps:g} GB/s; channels of equal speed make {best.ring_gbps:g} of them")
    trees = [tree for way in reached.ways if way.path is best.path for tree in (way.tree, way.split.tree if way.split else None)]
    if max((tree.gbps for tree in trees if tree), default=0.0) > 1.5 * best.ring_gbps:
        sentences.append("a tree crosses the slow cut once only, and is faster than the ring for large messages")
    if reached.nvls_gbps is not None:
        sentences.append(f"NVSwitch multicast gives {reached.nvls_gbps:g} GB/s, rings {reached.ring_gbps:g}")
    return tuple(sentences)


def _fastest(packed: tuple[Packing, ...]) -> Packing:
    return max(packed, key=lambda packing: packing.ring_gbps)


def _missing_links(machine: Machine, fabric: Fabric, members: tuple[int, ...], best: Packing) -> list[str]:
    """Why the best rings do not keep to the pairs' own NVLinks; empty where they do."""

    def gpu(position: int) -> str:
        return f"GPU {machine.gpus[position].index}"

    linked = {pair: over_nvlink(fabric, *pair) for pair in combinations(members, 2)}
    if best.path is Path.NVLINK:
        return []
    if best.path is Path.DETOUR:
        apart = ", ".join(f"{gpu(a)} and {gpu(b)}" for (a, b), is_linked in linked.items() if not is_linked)
        return [f"no NVLink joins {apart}: rings pass through a third GPU's links there"]
    if not any(linked.values()):
        return ["no two of these GPUs are joined by NVLink"]
    unlinked = [a for a in members if not any(is_linked for pair, is_linked in linked.items() if a in pair)]
    if unlinked:
        return [f"{', '.join(map(gpu, unlinked))} {'has' if len(unlinked) == 1 else 'have'} no NVLink to the others"]
    return ["NVLink joins only parts of the set: no ring keeps to it"]


def _full_wire(full: FullWire, wire: Wire, machine: Machine) -> str:
    """`ring crosses the socket link twice (NUMA zone 0 - NUMA zone 1): 10 GB/s per direction`."""
    name = wire.text(lambda position: machine.gpus[position].index)
    capacity = f"{full.capacity_gbps:g} GB/s per direction"
    if wire.kind not in (WireKind.SOCKET_LINK, WireKind.UPLINK):
        return f"full: {name}, {capacity}"
    crossings = full.crossings
    if abs(crossings - round(crossings)) > 0.01:
        crossings /= HOST_BRIDGE_PENALTY
    is_whole = abs(crossings - round(crossings)) < 0.01
    times = _TIMES_WORDS.get(round(crossings), f"{crossings:.3g} times") if is_whole else f"{crossings:.1f} times on average"
    if wire.kind is WireKind.SOCKET_LINK:
        return f"ring crosses the socket link {times} ({' - '.join(wire.vertices)}): {capacity}"
    return f"ring crosses the {name} {times}: {capacity}"
