"""The answer of `what-if` as tables. The input is the plain data that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.console.cells import gbps, gpu_set
from extender.cli.rendering.console.fitted_tables import Column, FittedTable

MOST_ROWS = 100
"""Most pods in the table; `-o json` has all. Pods that change or find no node come first."""

PODS = (
    Column("pod", 0, least_width=16),
    Column("GPUs", 6, is_number=True),
    Column("now", 4, least_width=12),
    Column("then", 7, least_width=16),
    Column("likely GPUs", 3, least_width=12),
    Column("GB/s", 5, is_number=True),
    Column("equal nodes", 1, is_number=True),
)
CAPACITY = (
    Column("product", 0, least_width=16),
    Column("nodes", 3, is_number=True),
    Column("GPUs", 4, is_number=True),
    Column("free now", 5, is_number=True),
    Column("free then", 6, is_number=True),
    Column("free, cordoned", 1, is_number=True),
    Column("whole nodes free", 2, is_number=True),
)


def what_if(answer: Mapping[str, Any]) -> RenderableType:
    """Return the summary, the pods, what remains, and what the answer leaves out."""
    parts: list[RenderableType] = [Text(answer["summary"], style="bold")]
    if not answer["complete"]:
        parts.append(Text(f"the time was over after {answer['reached_pods']} pods: ask about fewer", style="yellow"))
    if answer["pods"]:
        parts.append(_pods(answer["pods"]))
    parts += _refusals(answer["pods"])
    parts.append(_capacity(answer["capacity_now"], answer["capacity_after"]))
    parts += [Text(f"note: {note}", style="yellow") for note in answer["notes"]]
    parts += [Text(f"  not simulated: {text}", style="dim") for text in answer["not_simulated"]]
    parts += [Text(f"  not checked: {text}", style="dim") for text in answer["not_checked"]]
    if answer.get("cluster"):
        parts.append(Text(f"cluster: {answer['cluster']}"))
    return Group(*parts)


def _pods(pods: Sequence[Mapping[str, Any]]) -> RenderableType:
    shown = pods if len(pods) <= MOST_ROWS else sorted(pods, key=lambda pod: not (pod["changes"] or pod["after"]["node"] is None))
    table = FittedTable(PODS)
    for pod in shown[:MOST_ROWS]:
        after = pod["after"]
        table.add(
            [
                f"{pod['pod']}{' (added)' if pod['added'] else ''}",
                "-" if pod["gpus_requested"] is None else str(pod["gpus_requested"]),
                "-" if pod["before"] is None else _place(pod["before"]),
                Text(_place(after), style=_style(pod)),
                gpu_set(after["gpus"]) if after["gpus"] is not None else "-",
                gbps(after["expected_bandwidth_gbps"]),
                str(after["equally_good_nodes"] or "-"),
            ]
        )
    more = len(pods) - MOST_ROWS
    return Group(table, Text(f"and {more} more pods: -o json has all", style="dim")) if more > 0 else table


def _place(placement: Mapping[str, Any]) -> str:
    return str(placement["node"] or placement["outcome"])


def _style(pod: Mapping[str, Any]) -> str:
    if pod["after"]["outcome"] == "no node":
        return "red"
    return "bold green" if pod["changes"] else ""


def _refusals(pods: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Return a line per reason why pods are not placed, with how many pods it concerns and the first of them."""
    by_reason: dict[str, list[str]] = {}
    for pod in pods:
        if pod["after"]["why"]:
            by_reason.setdefault(pod["after"]["why"], []).append(pod["pod"])
    lines = []
    for why, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(Text(f"{names[0]}{more}: {why}"))
    return list(lines)


def _capacity(now: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = FittedTable(CAPACITY, title="what remains")
    free_now = {row["product"]: row["free_gpus"] for row in now}
    for row in after:
        table.add(
            [
                row["product"] or "unknown product",
                str(row["nodes"]),
                str(row["gpus"]),
                str(free_now.get(row["product"], 0)),
                str(row["free_gpus"]),
                str(row["cordoned_free_gpus"] or "-"),
                str(row["whole_nodes_free"]),
            ]
        )
    return table if table.rows else Text("no node offers whole GPUs")
