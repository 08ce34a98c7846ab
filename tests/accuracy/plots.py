"""Two plots for docs/bandwidth.md, as SVG: `python -m tests.accuracy.plots docs/pictures`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path

from tests.accuracy.figures import MEASURED, MESSAGES, nccl_search
from tests.accuracy.report import measured_gbps, performances

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 460, 64, 200, 44, 52
COLOURS = ("#2d6a4f", "#94451f", "#1d4e89", "#7b2d8b", "#b08900", "#c1121f", "#0a9396", "#6c757d")
Scale = Callable[[float], float]


def logarithmic(least: float, most: float, start: float, end: float) -> Scale:
    """A logarithmic axis from `start` to `end` pixels."""
    return lambda value: start + (end - start) * (log10(value) - log10(least)) / (log10(most) - log10(least))


Ticks = Sequence[tuple[float, str]]


def frame(title: str, x_name: str, y_name: str, x: Scale, y: Scale, xs: Ticks, ys: Ticks) -> list[str]:
    """Axes, grid and names."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="12" fill="#1f2933">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">{title}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 12}" text-anchor="middle">{x_name}</text>',
        f'<text x="16" y="{HEIGHT / 2:g}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2:g})">{y_name}</text>',
    ]
    for value, name in xs:
        at = x(value)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{name}</text>')
    for value, name in ys:
        at = y(value)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{name}</text>')
    return parts


def legend(names: Sequence[str]) -> list[str]:
    """Names in their colours, on the right."""
    parts: list[str] = []
    for number, name in enumerate(names):
        at = TOP + 12 + 20 * number
        parts.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{at}" r="5" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 28}" y="{at + 4}">{name}</text>')
    return parts


def sets_plot() -> str:
    """Every set of every machine at 1 and 256 MiB: NCCL's model against ours."""
    x, y = logarithmic(3, 600, LEFT, WIDTH - RIGHT), logarithmic(3, 600, HEIGHT - BOTTOM, TOP)
    ticks = [(value, f"{value:g}") for value in (5, 10, 20, 50, 100, 200, 500)]
    machines = nccl_search()
    parts = frame("Every set of every machine, 1 MiB and 256 MiB", "NCCL's search, GB/s", "ours, GB/s", x, y, ticks, ticks)
    parts.append(f'<line x1="{x(3):.1f}" y1="{y(3):.1f}" x2="{x(600):.1f}" y2="{y(600):.1f}" stroke="#94a3b8" stroke-dasharray="4 4"/>')
    for number, machine in enumerate(machines):
        seen: dict[tuple[float, float], int] = {}
        ours = performances(machine)
        for mask, gbps in machine.busbw_gbps.items():
            for column, message in enumerate(MESSAGES):
                if message in ("1 MiB", "256 MiB"):
                    point = (gbps[column], round(ours[mask].busbw(MESSAGES[message]), 2))
                    seen[point] = seen.get(point, 0) + 1
        for (theirs, own), count in sorted(seen.items()):
            told = f"<title>{machine.name}: {count} sets, NCCL {theirs:g}, ours {own:g} GB/s</title>"
            look = f'r="{2.5 + 1.6 * log10(count):.1f}" fill="{COLOURS[number % len(COLOURS)]}" fill-opacity="0.6"'
            parts.append(f'<circle cx="{x(theirs):.1f}" cy="{y(own):.1f}" {look}>{told}</circle>')
    return "\n".join([*parts, *legend([machine.name.replace(" bridged pairs", "") for machine in machines]), "</svg>"]) + "\n"


def curve_plot() -> str:
    """Message size against bus bandwidth on eight H200: measured and ours."""
    points = [what for what in MEASURED if what.platform == "hgx-h200" and what.gpus == 8]
    points = sorted({what.message_bytes: what for what in points}.values(), key=lambda what: what.message_bytes)
    x, y = logarithmic(2**14, 2**35, LEFT, WIDTH - RIGHT), logarithmic(1, 700, HEIGHT - BOTTOM, TOP)
    sizes = [(2**15, "32 KiB"), (2**20, "1 MiB"), (2**24, "16 MiB"), (2**28, "256 MiB"), (2**34, "16 GiB")]
    speeds = [(value, f"{value:g}") for value in (1, 5, 10, 50, 100, 500)]
    parts = frame("Eight H200: bus bandwidth by message size", "message", "GB/s", x, y, sizes, speeds)
    ours = " ".join(f"{x(what.message_bytes):.1f},{y(measured_gbps(what)):.1f}" for what in points)
    parts.append(f'<polyline points="{ours}" fill="none" stroke="{COLOURS[1]}" stroke-width="2"/>')
    for what in points:
        told = f"<title>{what.gbps:g} GB/s measured, {measured_gbps(what):.1f} ours</title>"
        parts.append(f'<circle cx="{x(what.message_bytes):.1f}" cy="{y(what.gbps):.1f}" r="4.5" fill="{COLOURS[0]}">{told}</circle>')
    return "\n".join([*parts, *legend(["measured", "ours, launch included"]), "</svg>"]) + "\n"


PLOTS = {"accuracy-sets.svg": sets_plot, "accuracy-h200.svg": curve_plot}


def main(folder: Path) -> None:
    """Write both."""
    for name, plot in PLOTS.items():
        (folder / name).write_text(plot())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
