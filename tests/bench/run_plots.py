"""`python -m tests.bench.run_plots RUN.json docs`: write the plots of a run, and its table, into docs/performance.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.accuracy.plots import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, frame, legend, logarithmic
from tests.bench.report_rows import Row, markdown

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
"""What is between these lines of the page is written by this module."""
Curve = list[tuple[float, float]]
"""Points (x, y)."""
_VERBS = re.compile(r"(?P<verb>\w+), (?P<names>[\d,]+) names, (?P<states>[\d,]+) states")
_GROWTH = re.compile(r"(?P<verb>\w+), \d+ names, (?P<value>[\d,]+) (?P<axis>.+)")


def row_of(columns: dict[str, Any]) -> Row:
    """Return the row that was written with these columns."""
    return Row(**{key: value for key, value in columns.items() if key not in ("ratio", "met")})


def plot(title: str, x_name: str, y_name: str, curves: dict[str, Curve]) -> str:
    """Return an SVG of curves on logarithmic axes."""
    xs, ys = [x for curve in curves.values() for x, _ in curve], [y for curve in curves.values() for _, y in curve]
    x = logarithmic(min(xs) * 0.8, max(xs) * 1.25, LEFT, WIDTH - RIGHT)
    y = logarithmic(min(ys) * 0.8, max(ys) * 1.25, HEIGHT - BOTTOM, TOP)
    ticks = [(value, f"{value:,g}") for value in sorted(set(xs))]
    parts = frame(title, x_name, y_name, x, y, ticks, _ticks(min(ys), max(ys)))
    for number, curve in enumerate(curves.values()):
        colour, points = COLOURS[number % len(COLOURS)], sorted(curve)
        line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for at, value in points:
            parts.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5" fill="{colour}"><title>{value:.3g}</title></circle>')
    return "\n".join([*parts, *legend(list(curves)), "</svg>"]) + "\n"


def _ticks(least: float, most: float) -> list[tuple[float, str]]:
    """Return the labelled values of an axis: 1, 2 and 5 times powers of ten, and values between them where these are fewer than three."""
    for steps in ((1, 2, 5), (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7.5)):
        values = [step * 10.0**power for power in range(-3, 6) for step in steps]
        ticks = [(value, f"{value:g}") for value in values if least * 0.8 <= value <= most * 1.25]
        if len(ticks) > 2:
            break
    return ticks


def verbs_plot(rows: Sequence[Row], verb: str) -> str | None:
    """Return the plot of a verb's medians by names, Fabricwise's and the floor's, for each number of states."""
    curves: dict[str, Curve] = {}
    for row in rows:
        found = _VERBS.fullmatch(row.case)
        if row.part == "verbs" and row.figure == "p50 ms" and found and found["verb"] == verb and row.beside:
            names = float(found["names"].replace(",", ""))
            curves.setdefault(f"{found['states']} states", []).append((names, row.value))
            curves.setdefault(f"floor ({found['states']} states)", []).append((names, row.beside))
    return plot(f"{verb}: median by number of names", "names", "ms", curves) if curves else None


def growth_plot(rows: Sequence[Row], axis: str) -> str | None:
    """Return the plot of both verbs' ratios to the floor by what grows."""
    curves: dict[str, Curve] = {}
    for row in rows:
        found = _GROWTH.fullmatch(row.case)
        if row.part == "growth" and found and found["axis"] == axis and row.ratio:
            curves.setdefault(found["verb"], []).append((float(found["value"].replace(",", "")), row.ratio))
    return plot(f"500 names: median by {axis}", axis, "ratio to the floor", curves) if curves else None


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """Return file name -> SVG, for what the rows contain."""
    drawn = {f"performance-{verb}.svg": verbs_plot(rows, verb) for verb in ("filter", "prioritize")}
    axes = {"nodes": "nodes known", "states": "distinct states", "gpus": "GPUs per node", "pods": "pods known"}
    drawn |= {f"performance-growth-{name}.svg": growth_plot(rows, axis) for name, axis in axes.items()}
    return {name: svg for name, svg in drawn.items() if svg is not None}


def with_results(page: str, report: dict[str, Any]) -> str:
    """Return the page with the results of a run between its markers. Raises ValueError where the page has no markers."""
    rows = [row_of(columns) for columns in report["rows"]]
    machine = report["machine"]
    taken = datetime.fromtimestamp(report["at"], UTC).date().isoformat()
    head = f"Measured on {taken}, {machine['cores']} cores, Python {machine['python']}, {machine['system']}."
    images = [f"![{name.removesuffix('.svg').replace('-', ' ')}](pictures/{name})" for name in plots(rows)]
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return "\n\n".join([before + begin, head, *images, markdown(rows).rstrip(), end + after])


def main() -> None:
    """Write the plots and the page."""
    report, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for name, svg in plots([row_of(columns) for columns in report["rows"]]).items():
        (folder / "pictures" / name).write_text(svg)
    page = folder / "performance.md"
    page.write_text(with_results(page.read_text(), report))


if __name__ == "__main__":
    main()
