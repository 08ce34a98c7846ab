"""A machine as an SVG drawing: sockets at the top, then PCIe switches, a row of GPUs, and NVLinks as arcs below. Pure.

The thickness of a link grows with the logarithm of its GB/s; the colour of a GPU shows whether it is free.
"""

from __future__ import annotations

import html
from itertools import combinations
from math import log2

from extender.decision.report.live.machine_shape import drawing_order, vertices_above
from extender.plain_text import plain
from topology.bandwidth.fabric import NVSWITCH_VERTEX, Fabric, build_fabric, fabric_name
from topology.bandwidth.wires import nvlink, nvswitch_port
from topology.machine.hardware import Machine
from topology.machine.links import LinkKind

CELL, MARGIN = 96, 40
SOCKET_Y, SWITCH_Y, GPU_Y, NVSWITCH_Y = 92, 176, 268, 384
INK, FREE, TAKEN, NVLINK, PCIE, SOCKET = "#1f2933", "#b7e4c7", "#f4c7ab", "#2d6a4f", "#64748b", "#94451f"


def draw(name: str, machine: Machine, free: int) -> str:
    """Return the SVG text of a machine whose free positions are the mask `free`."""
    fabric = build_fabric(machine)
    order = drawing_order(fabric)
    center = {f"GPU {position}": MARGIN + CELL * (column + 0.5) for column, position in enumerate(order)}
    center |= _above(fabric, center)
    arcs = _arcs(fabric, center)
    bottom = (NVSWITCH_Y + 60 if NVSWITCH_VERTEX in fabric.graph else GPU_Y + 60 + _depth(fabric, order)) + 46
    width = max(2 * MARGIN + CELL * max(1, fabric.size), 560)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom}" viewBox="0 0 {width} {bottom}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        f"<title>{_text(name)}</title>",
        f'<rect width="{width}" height="{bottom}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="30" font-size="16" font-weight="600">{_text(_heading(name, machine))}</text>',
        *_pcie(fabric, center),
        *arcs,
        *_boxes(fabric, center),
        *_gpus(machine, center, free),
        *_legend(bottom - 18),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    """Return text from outside, escaped for XML and terminals."""
    return html.escape(plain(text))


def _heading(name: str, machine: Machine) -> str:
    product = machine.gpus[0].product if machine.gpus else None
    return f"{name}: {len(machine.gpus)} x {product or 'GPU'}, {fabric_name(machine)}" if machine.gpus else f"{name}: no GPUs"


def _above(fabric: Fabric, center: dict[str, float]) -> dict[str, float]:
    """Return vertex -> x of switches and sockets: the middle of their GPUs."""
    below: dict[str, list[float]] = {}
    for position in range(fabric.size):
        for vertex in vertices_above(fabric, f"GPU {position}"):
            below.setdefault(vertex, []).append(center[f"GPU {position}"])
    return {vertex: (min(centers) + max(centers)) / 2 for vertex, centers in below.items()}


def _thick(gbps: float | None) -> float:
    return 1.0 if not gbps or gbps < 2 else round(0.8 * log2(gbps), 2)


def _line(x1: float, y1: float, x2: float, y2: float, gbps: float | None, colour: str) -> str:
    title = f"<title>{gbps:g} GB/s per direction</title>" if gbps else ""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="{_thick(gbps)}"'
        f' stroke-linecap="round">{title}</line>'
    )


def _height(fabric: Fabric, vertex: str) -> float:
    kind = fabric.graph.nodes[vertex]["kind"]
    if kind == "switch":
        return SWITCH_Y - (44 if vertex.startswith("upper") else 0)
    return {"socket": SOCKET_Y, "gpu": GPU_Y, "nvswitch": NVSWITCH_Y}[kind]


def _pcie(fabric: Fabric, center: dict[str, float]) -> list[str]:
    lines: list[str] = []
    for a, b, link in fabric.graph.edges(data=True):
        if link["kind"] in ("pcie", "socket") and a in center and b in center:
            colour = SOCKET if link["kind"] == "socket" else PCIE
            lines.append(_line(center[a], _height(fabric, a), center[b], _height(fabric, b), link["gbps"], colour))
            if link["kind"] == "socket":
                middle = (center[a] + center[b]) / 2
                lines.append(_label(middle, SOCKET_Y - 8, f"{link['gbps']:g} GB/s", SOCKET))
    return lines


def _arcs(fabric: Fabric, center: dict[str, float]) -> list[str]:
    """Return direct NVLinks as arcs below the GPUs, and NVSwitch ports as lines to one bar."""
    lines: list[str] = []
    top = GPU_Y + 22
    for a, b in combinations(range(fabric.size), 2):
        link = fabric.links[a, b]
        if link.kind is LinkKind.NVLINK:
            left, right = sorted((center[f"GPU {a}"], center[f"GPU {b}"]))
            gbps, deep = fabric.capacity_gbps[nvlink(a, b).name], top + 0.62 * (right - left)
            title = f"<title>{link}, {gbps:g} GB/s per direction</title>"
            curve = f"M{left:g} {top} Q{(left + right) / 2:g} {deep:g} {right:g} {top}"
            style = f'fill="none" stroke="{NVLINK}" stroke-width="{_thick(gbps)}" stroke-opacity="0.8"'
            lines.append(f'<path d="{curve}" {style}>{title}</path>')
            lines.append(_label((left + right) / 2, (top + deep) / 2 + 14, f"{link} {gbps:g}", NVLINK))
    return lines + _switched(fabric, center)


def _switched(fabric: Fabric, center: dict[str, float]) -> list[str]:
    switched = [position for position in range(fabric.size) if fabric.switch_links[position]]
    if NVSWITCH_VERTEX not in fabric.graph or not switched:
        return []
    lines: list[str] = []
    for position in switched:
        x, gbps = center[f"GPU {position}"], fabric.capacity_gbps[nvswitch_port(position).name]
        lines += [_line(x, GPU_Y, x, NVSWITCH_Y, gbps, NVLINK), _label(x + 6, GPU_Y + 62, f"{gbps:g}", NVLINK, "start")]
    ends = [center[f"GPU {position}"] for position in switched]
    bar = _box(min(ends) - 40, NVSWITCH_Y - 16, max(ends) - min(ends) + 80, 32, "#d8f3dc", "NVSwitch, GB/s per GPU and direction")
    return [*lines, bar]


def _depth(fabric: Fabric, order: list[int]) -> float:
    column = {position: number for number, position in enumerate(order)}
    spans = [abs(column[a] - column[b]) for (a, b), link in fabric.links.items() if link.is_nvlink]
    return 0.31 * CELL * max(spans, default=0)


def _boxes(fabric: Fabric, center: dict[str, float]) -> list[str]:
    boxes: list[str] = []
    for vertex, x in center.items():
        kind = fabric.graph.nodes[vertex]["kind"]
        if kind == "socket":
            boxes.append(_box(x - 52, SOCKET_Y - 16, 104, 32, "#fde8d7", vertex))
        elif kind == "switch":
            boxes.append(_box(x - 46, _height(fabric, vertex) - 13, 92, 26, "#e2e8f0", f"PCIe {vertex}"))
    return boxes


def _gpus(machine: Machine, center: dict[str, float], free: int) -> list[str]:
    return [
        _box(center[f"GPU {p}"] - 34, GPU_Y - 22, 68, 44, FREE if free >> p & 1 else TAKEN, f"GPU {gpu.index}")
        for p, gpu in enumerate(machine.gpus)
    ]


def _box(x: float, y: float, width: float, height: float, colour: str, text: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{colour}" stroke="{INK}"/>'
        f'<text x="{x + width / 2:g}" y="{y + height / 2 + 4:g}" text-anchor="middle">{_text(text)}</text>'
    )


def _label(x: float, y: float, text: str, colour: str, anchor: str = "middle") -> str:
    halo = 'stroke="#ffffff" stroke-width="3" paint-order="stroke"'
    return f'<text x="{x:g}" y="{y:g}" font-size="10" text-anchor="{anchor}" fill="{colour}" {halo}>{_text(text)}</text>'


def _legend(y: float) -> list[str]:
    entries = ((FREE, "free"), (TAKEN, "taken"), (NVLINK, "NVLink"), (PCIE, "PCIe"), (SOCKET, "between sockets"))
    parts: list[str] = []
    x = float(MARGIN)
    for colour, text in entries:
        parts.append(f'<rect x="{x:g}" y="{y - 10:g}" width="14" height="12" fill="{colour}" stroke="{INK}" stroke-width="0.5"/>')
        parts.append(f'<text x="{x + 20:g}" y="{y:g}">{text}</text>')
        x += 34 + 7.2 * len(text)
    return parts
