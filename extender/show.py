"""Answers as tables for terminals. Data comes in as plain dicts, the same that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def gbps(value: float | None) -> str:
    """GB/s for people; `-` where there is none."""
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def gpu_set(indices: Sequence[int]) -> str:
    """{0,1,2,3}"""
    return "{" + ",".join(map(str, indices)) + "}"


def explanation(answer: Mapping[str, Any]) -> RenderableType:
    """`explain` as a table: candidates first, then refusals with their reasons."""
    table = Table(title=_title(answer), title_justify="left", header_style="bold")
    for name, justify in (
        ("node", "left"),
        ("score", "right"),
        ("value", "right"),
        ("GB/s expected", "right"),
        ("best", "right"),
        ("worst", "right"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("likely GPUs / reason")
    for row in answer["nodes"]:
        marked = Text(row["node"], style="bold green" if row["node"] == answer["chosen"] else "" if row["feasible"] else "dim")
        table.add_row(
            marked,
            "-" if row["score"] is None else str(row["score"]),
            "-" if row["value"] is None else f"{row['value']:.3f}",
            gbps(row["expected_bandwidth_gbps"]),
            gbps(row["best_bandwidth_gbps"]),
            gbps(row["worst_bandwidth_gbps"]),
            _why(row),
        )
    chosen = answer["chosen"] or "no node"
    age = answer.get("state_age_seconds")
    aged = [Text(f"the API server has not been heard for {age:.0f} s: this is the state before that", style="yellow")] if age else []
    return Group(table, Text(f"chosen: {chosen}", style="bold"), *aged, *_scores(answer), *_inferred(answer.get("inferred")))


def _inferred(told: Mapping[str, Any] | None) -> list[Text]:
    """What its command lines tell, and what looks wrong."""
    if not told:
        return []
    facts = [Text(f"  inferred: {fact['fact']} {fact['value']} ({fact['from']})") for fact in told["facts"]]
    return facts + [Text(f"  warning: {warning}", style="yellow") for warning in told["warnings"]]


def _title(answer: Mapping[str, Any]) -> str:
    demand = answer["demand"]
    if "problem" in demand:
        return f"{answer['pod']}: {demand['problem']}"
    if claims := demand.get("claims"):
        asked = [f"{one['count']} of {one['class']}" for one in claims["requests"]]
        return f"{answer['pod']} asks by claims for {', '.join(asked) or claims['unknown'] or 'what is allocated already'}"
    return f"{answer['pod']} asks for {demand['gpus']} GPUs, per container {demand['gpus_per_container']}"


def _why(row: Mapping[str, Any]) -> str:
    if row["rejection"]:
        return f"{row['rejection']['reason']} ({row['rejection']['detail']})"
    sets = [f"{gpu_set(p['gpus'])} {p['probability']:.0%}" for p in row["predicted"][:3]]
    further = len(row["predicted"][3:]) + row.get("further_sets", 0)  # an older server does not count further sets
    chance = sum(p["probability"] for p in row["predicted"][3:]) + row.get("further_probability", 0.0)
    more = f" +{further} more ({chance:.0%})" if further else ""
    return " ".join(sets) + more if sets else "; ".join(row["notes"])


def _scores(answer: Mapping[str, Any]) -> list[Text]:
    top = next((row for row in answer["nodes"] if row["node"] == answer["chosen"]), None)
    if top is None:
        return []
    return [Text(f"  {name} {s['value']:.2f} x {s['weight']:g}: {s['detail']}") for name, s in top["scores"].items()]


def sets(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`topo show --all-sets` as a table."""
    table = Table(title="all-reduce bus bandwidth of every set, GB/s: of rings, then by message size", title_justify="left")
    table.add_column("GPUs", no_wrap=True)
    table.add_column("rings", justify="right", no_wrap=True)
    for size in found[0]["busbw_gbps"] if found else ():
        table.add_column(size, justify="right", no_wrap=True)
    for row in found:
        table.add_row(gpu_set(row["gpus"]), *(f"{speed:.2f}" for speed in (row["bandwidth_gbps"], *row["busbw_gbps"].values())))
    return table


def _ranged(row: Mapping[str, Any]) -> str:
    """Bandwidth of a set, with its range where its machine contradicts itself."""
    speed, ends = gbps(row["bandwidth_gbps"]), [gbps(end) for end in row.get("bandwidth_range_gbps", ())]
    return speed if len(set(ends)) < 2 else f"{speed} ({ends[0]} to {ends[1]})"


def topology(answer: Mapping[str, Any]) -> RenderableType:
    """`topo show` as tables: the matrix with GB/s, best and worst sets per size, one set if asked for."""
    indices = answer["gpus"]
    matrix = Table(title=f"{answer['name']}: {len(indices)} GPUs, {answer['fabric']}; GB/s per pair", title_justify="left")
    matrix.add_column("", no_wrap=True)
    for index in indices:
        matrix.add_column(f"GPU{index}", justify="right", no_wrap=True)
    for index, row in zip(indices, answer["pairs"], strict=True):
        matrix.add_row(f"GPU{index}", *("X" if cell is None else f"{cell['link']}\n{gbps(cell['bandwidth_gbps'])}" for cell in row))
    sizes = Table(title="all-reduce bus bandwidth per set size, GB/s of rings; --all-sets has all message sizes", title_justify="left")
    for name in ("GPUs", "best", "a best set", "expected", "worst", "a worst set"):
        sizes.add_column(name, justify="left" if "set" in name else "right")
    for row in answer["sizes"]:
        sizes.add_row(
            str(row["size"]), _ranged(row["best"]), gpu_set(row["best"]["gpus"]), gbps(row["expected_bandwidth_gbps"]),
            _ranged(row["worst"]), gpu_set(row["worst"]["gpus"]),
        )  # fmt: skip
    parts: list[RenderableType] = [matrix, sizes]
    if answer["assumed"]:
        parts.append(Text(f"assumed, for nothing told: {'; '.join(answer['assumed'])}", style="yellow"))
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
    return Group(*parts)
