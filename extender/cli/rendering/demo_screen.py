"""The demo's screen: the cluster, the newest pods, and a summary. It fits the size of the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extender.cli.rendering.console.cells import gbps
from extender.sources.simulated import SimulatedCluster
from topology.placement.shared_tables import table_for

SIMULATED = "SIMULATED: nodes, GPUs, telemetry, GB/s. REAL: the HTTP service, its decisions."
"""Which parts of the demo are simulated and which are real, in 80 columns."""

WIDE_COLUMNS = 110
"""Terminal width from which products and the nodes of the count-only scheduler are shown."""
NARROW_COLUMNS = 76
"""Terminal width below which predictions are left out."""
LEAST_PODS = 4
"""Pods that are shown regardless of the terminal's height."""
_LINES_BESIDE_ROWS = 7
"""Lines other than nodes and pods: `SIMULATED`, legend, news, two table heads, one title, and one empty line."""

_TAKEN, _FREE, _HELD, _FAULTY = "■", "□", "▒", "✗"
_STYLES = {_TAKEN: "", _FREE: "green", _HELD: "yellow", _FAULTY: "bold red"}
LEGEND = f"{_TAKEN} taken  {_FREE} free  {_HELD} held by a process unknown to Kubernetes  {_FAULTY} faulty"


@dataclass(slots=True)
class Placed:
    """A pod of the demo, with its placements by the service and by the count-only scheduler."""

    pod: str
    size: int
    """Number of GPUs."""
    node: str | None = None
    gpus: tuple[int, ...] = ()
    predicted_gbps: float | None = None
    actual_gbps: float | None = None
    counted_node: str | None = None
    counted_gbps: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Stage:
    """The state that is shown."""

    ours: SimulatedCluster
    total: int
    """Number of pods in the demo."""
    placed: list[Placed] = field(default_factory=list)
    news: str = "telemetry: all GPUs are well"
    stray: tuple[str, int] | None = None
    """(node, GPU index) of a running process that is unknown to Kubernetes."""


def screen(stage: Stage, width: int, height: int) -> RenderableType:
    """Return the cluster and the newest pods, in at most `height` lines of `width` columns.

    `pair left` and `four left` are the GB/s of the best two and four usable GPUs of the node.
    """
    nodes, pods = row_counts(height, len(stage.ours.machines))
    lines = [_line(SIMULATED, "bold"), _line(LEGEND), _line(stage.news, "yellow" if stage.stray or "XID" in stage.news else "")]
    return Group(*lines, _cluster(stage, width, nodes), _pods(stage, width, pods))


def row_counts(height: int, nodes: int) -> tuple[int, int]:
    """Return (node lines, pod lines) on a terminal of `height` lines; one node line counts the nodes that are not shown."""
    rows = max(LEAST_PODS + 2, height - _LINES_BESIDE_ROWS)
    pods = max(LEAST_PODS, rows - nodes)
    return min(nodes, rows - pods), pods


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _table(*columns: tuple[str, bool]) -> Table:
    """Return a borderless table with columns of (head, is a number). Numbers and GPUs keep their width on a narrow terminal."""
    table = Table(box=None, pad_edge=False, expand=False, header_style="dim")
    for head, number in columns:
        table.add_column(head, justify="right" if number else "left", no_wrap=True, min_width=8 if head == "GPUs" else len(head) * number)
    return table


def _cluster(stage: Stage, width: int, rows: int) -> RenderableType:
    wide = width >= WIDE_COLUMNS
    product = (("product", False),) if wide else ()
    table = _table(("node", False), ("GPUs", False), *product, ("pair left", True), ("four left", True))
    names = list(stage.ours.machines)
    shown = names if rows >= len(names) else _newest_first(stage, names)[: rows - 1]
    for name in names:
        if name not in shown:
            continue
        machine = stage.ours.machines[name]
        usable, known = stage.ours.usable(name), table_for(machine)
        best = [known.extremes(usable, size) for size in (2, 4)]
        speeds = [gbps(extremes[0].busbw_gbps) if extremes else "-" for extremes in best]
        kind = [(machine.gpus[0].product or "").removeprefix("NVIDIA ")] if wide else []
        table.add_row(name, gpu_marks(stage.ours, name), *kind, *speeds)
    if len(shown) < len(names):
        return Group(table, _line(f"and {len(names) - len(shown)} more nodes: a higher terminal shows them", "dim"))
    return table


def _newest_first(stage: Stage, names: Sequence[str]) -> list[str]:
    """Return the nodes by their newest pod, newest first, then the nodes without pods."""
    visited = dict.fromkeys(placed.node for placed in reversed(stage.placed) if placed.node is not None)
    return [*visited, *(name for name in names if name not in visited)]


def gpu_marks(cluster: SimulatedCluster, node: str) -> Text:
    """Return one mark per GPU of a node, by position."""
    free, usable, faulty = cluster.free(node), cluster.usable(node), cluster.faulty(node)
    marks = Text()
    for position in range(len(cluster.machines[node].gpus)):
        bit = 1 << position
        mark = _FAULTY if faulty & bit else _TAKEN if not free & bit else _FREE if usable & bit else _HELD
        marks.append(mark, _STYLES[mark])
    return marks


def _pods(stage: Stage, width: int, rows: int) -> RenderableType:
    wide, narrow = width >= WIDE_COLUMNS, width < NARROW_COLUMNS
    predicted = () if narrow else (("predicted", True),)
    count_only = "count-only scheduler" if wide else "count-only"
    table = _table(("pod", False), ("node", False), ("GPUs", False), *predicted, ("got", True), (count_only, True))
    for placed in stage.placed[-rows:]:
        ahead = (placed.actual_gbps or 0) > (placed.counted_gbps or 0)
        table.add_row(
            placed.pod,
            placed.node or Text("pending", style="yellow"),
            index_ranges(placed.gpus) or "-",
            *([] if narrow else [gbps(placed.predicted_gbps)]),
            Text(gbps(placed.actual_gbps), style="green" if ahead else ""),
            counted(placed) if wide else "pending" if placed.counted_node is None else gbps(placed.counted_gbps),
        )
    return Group(_line(f"pods, newest last, {len(stage.placed)} of {stage.total}; GB/s all-reduce", "italic"), table)


def index_ranges(indices: Sequence[int]) -> str:
    """Return indices as ranges: `0-3,6` for 0, 1, 2, 3, 6."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def counted(placed: Placed) -> str:
    """Return the pod's node and bandwidth by the count-only scheduler."""
    if placed.counted_node is None:
        return "pending"
    return placed.counted_node if placed.counted_gbps is None else f"{gbps(placed.counted_gbps)} on {placed.counted_node}"


def one_line(placed: Placed) -> str:
    """Return a pod as one line, for output without a terminal."""
    where = f"{placed.node} {{{index_ranges(placed.gpus)}}}" if placed.node else f"pending: {'; '.join(placed.reasons)}"
    figures = f"predicted {gbps(placed.predicted_gbps):>5} got {gbps(placed.actual_gbps):>5} GB/s"
    return f"{placed.pod:<13} {where:<35} {figures}   count-only: {counted(placed)}"


def summary(stage: Stage) -> RenderableType:
    """Return the mean bandwidth of both schedulers per pod size, and the share of accurate predictions."""
    table = Table(min_width=58, title="mean GB/s all-reduce, simulated, of pods that both placed", title_justify="left")
    for name in ("GPUs", "pods", "fabricwise", "count-only", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for size in (2, 4, 8):
        both = [p for p in stage.placed if p.size == size and p.actual_gbps is not None and p.counted_gbps is not None]
        if both:
            ours = sum(p.actual_gbps or 0 for p in both) / len(both)
            count_only = sum(p.counted_gbps or 0 for p in both) / len(both)
            table.add_row(str(size), str(len(both)), gbps(ours), gbps(count_only), f"{ours / count_only:.1f}x" if count_only else "-")
    landed = sum(p.node is not None for p in stage.placed)
    counted_landed = sum(p.counted_node is not None for p in stage.placed)
    close = [p for p in stage.placed if p.predicted_gbps and p.actual_gbps and abs(p.actual_gbps / p.predicted_gbps - 1) <= 0.05]
    linked = [p for p in stage.placed if p.actual_gbps]
    words = f"placed {landed} of {len(stage.placed)} pods (count-only: {counted_landed}); "
    return Group(table, Text(f"{words}{len(close)} of {len(linked)} got within 5 % of the predicted bandwidth"))
