"""The answer of `topo show` as tables. The input is the plain data that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extender.cli.rendering.console.cells import gbps, gpu_set
from extender.cli.rendering.console.fitted_tables import Compact


def sets(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the answer of `topo show --all-sets` as a table."""
    table = Table(title="all-reduce bus bandwidth of every set, GB/s: of rings, then by message size", title_justify="left")
    table.add_column("GPUs", no_wrap=True)
    table.add_column("rings", justify="right", no_wrap=True)
    for size in rows[0]["busbw_gbps"] if rows else ():
        table.add_column(size, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(gpu_set(row["gpus"]), *(f"{speed:.2f}" for speed in (row["bandwidth_gbps"], *row["busbw_gbps"].values())))
    return Compact(table)


SHORT_LINKS = {"NVSwitch": "NVS"}
"""Short link names for the cells of a matrix; its title has the full name."""


def _ranged(row: Mapping[str, Any]) -> str:
    """Return the bandwidth of a set, with its range if the facts about its machine contradict each other."""
    speed, ends = gbps(row["bandwidth_gbps"]), [gbps(end) for end in row.get("bandwidth_range_gbps", ())]
    return speed if len(set(ends)) < 2 else f"{speed} ({ends[0]} to {ends[1]})"


def topology(answer: Mapping[str, Any]) -> RenderableType:
    """Return the answer of `topo show` as tables: the matrix in GB/s, best and worst set per size, and the set of `--gpus`."""
    indices = answer["gpus"]
    matrix = Table(title=f"{answer['name']}: {len(indices)} GPUs, {answer['fabric']}; GB/s per pair", title_justify="left")
    matrix.add_column("", no_wrap=True)
    for index in indices:
        matrix.add_column(f"GPU{index}", justify="right", no_wrap=True)
    for index, row in zip(indices, answer["pairs"], strict=True):
        matrix.add_row(
            f"GPU{index}",
            *("X" if cell is None else f"{SHORT_LINKS.get(cell['link'], cell['link'])}\n{gbps(cell['bandwidth_gbps'])}" for cell in row),
        )
    sizes = Table(title="all-reduce bus bandwidth per set size, GB/s of rings; --all-sets has all message sizes", title_justify="left")
    for name in ("GPUs", "best", "a best set", "expected", "worst", "a worst set"):
        sizes.add_column(name, justify="left" if "set" in name else "right", overflow="fold")
    for row in answer["sizes"]:
        sizes.add_row(
            str(row["size"]),
            _ranged(row["best"]),
            gpu_set(row["best"]["gpus"]),
            gbps(row["expected_bandwidth_gbps"]),
            _ranged(row["worst"]),
            gpu_set(row["worst"]["gpus"]),
        )
    parts: list[RenderableType] = [Compact(matrix), Compact(sizes)]
    if answer["assumed"]:
        parts.append(Text(f"assumed, because it is not stated: {'; '.join(answer['assumed'])}", style="yellow"))
    parts += [Text(f"contradiction: {says}", style="yellow") for says in answer["contradictions"]]
    chosen = answer.get("set")
    if chosen:
        latency = chosen["latency_seconds"]
        figures = (
            "a single GPU: no communication" if latency is None else f"{_ranged(chosen)} GB/s of rings, latency {latency * 1e6:.1f} us"
        )
        parts.append(Text(f"{gpu_set(chosen['gpus'])}: {figures}", style="bold"))
        if chosen["busbw_gbps"]:
            parts.append(Text("  by message size: " + ", ".join(f"{size} {gbps(speed)}" for size, speed in chosen["busbw_gbps"].items())))
        parts += [Text(f"  {sentence}") for sentence in chosen["why"]]
    if answer.get("cluster"):
        parts.append(Text(f"cluster: {answer['cluster']}"))
    return Group(*parts)
