"""Answers as tables for terminals. Data comes in as plain dicts, the same that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extender.cli.rendering.tables import Column, Compact, FittedTable, few


def gbps(value: float | None) -> str:
    """GB/s for people; `-` where there is none."""
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def gpu_set(indices: Sequence[int]) -> str:
    """{0,1,2,3}"""
    return "{" + ",".join(map(str, indices)) + "}"


CANDIDATES = (
    Column("node", 0, least_width=16),
    Column("score", 6, is_number=True),
    Column("value", 1, is_number=True),
    Column("GB/s expected", 5, is_number=True),
    Column("best", 2, is_number=True),
    Column("worst", 4, is_number=True),
    Column("likely GPUs", 3, least_width=20),
)


def explanations(answer: Mapping[str, Any]) -> RenderableType:
    """`explain` of one pod, or of several pod templates one below the other."""
    parts: list[RenderableType] = []
    for one in answer.get("explanations") or [answer]:
        parts += [explanation(one), Text("")]
    if answer.get("cluster"):
        parts.append(Text(f"cluster: {answer['cluster']}"))
    return Group(*parts)


def explanation(answer: Mapping[str, Any]) -> RenderableType:
    """One pod: candidates as a table, then the refused nodes by reason, then what was chosen and why, and what was not checked."""
    table = FittedTable(CANDIDATES, title=_title(answer))
    for row in answer["nodes"]:
        if row["feasible"]:
            table.add(_candidate(row, answer["chosen"]))
    parts: list[RenderableType] = [table] if table.rows else [Text(_title(answer), style="italic")]
    parts += _refused(answer["nodes"])
    chosen = answer["chosen"] or "no node"
    bound = f" (it is bound to {answer['bound_to']} now)" if answer.get("bound_to") else ""
    parts.append(Text(f"chosen: {chosen}{bound}", style="bold"))
    age = answer.get("state_age_seconds")
    if age:
        parts.append(Text(f"the API server has not been heard for {age:.0f} s: this is the state before that", style="yellow"))
    parts += [*_scores(answer), *_inferred(answer.get("inferred"))]
    parts += [Text(f"  not checked: {words}", style="dim") for words in answer.get("not_checked", ())]
    return Group(*parts)


def _candidate(row: Mapping[str, Any], chosen: str | None) -> list[str | Text]:
    return [
        Text(row["node"], style="bold green" if row["node"] == chosen else ""),
        "-" if row["score"] is None else str(row["score"]),
        "-" if row["value"] is None else f"{row['value']:.3f}",
        gbps(row["expected_bandwidth_gbps"]),
        gbps(row["best_bandwidth_gbps"]),
        gbps(row["worst_bandwidth_gbps"]),
        _likely(row),
    ]


def _refused(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    """The refused nodes, grouped by the reasons against them as kube-scheduler's event groups them; each detail once."""
    groups: dict[tuple[tuple[str, str], ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if not row["feasible"]:
            groups.setdefault(tuple((one.get("by", "fabricwise"), one["reason"]) for one in _reasons(row)), []).append(row)
    lines = [Text(f"refused: {sum(map(len, groups.values()))} nodes", style="bold")] if groups else []
    for reasons, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(Text(f"  {len(group)}: {few([row['node'] for row in group], 5)}"))
        for place, (by, reason) in enumerate(reasons):
            details: dict[str, list[str]] = {}
            for row in group:
                details.setdefault(_reasons(row)[place]["detail"], []).append(row["node"])
            said = [f"{detail}{f' ({few(nodes)})' if len(details) > 1 else ''}" for detail, nodes in details.items() if detail]
            more = f"; {len(said) - MOST_DETAILS} more" if len(said) > MOST_DETAILS else ""
            lines.append(Text(f"    {by}: {reason}{': ' if said else ''}{'; '.join(said[:MOST_DETAILS])}{more}", style="dim"))
    return lines


MOST_DETAILS = 3
"""Different details shown of one reason; `-o json` has them node by node."""
_COUNTS = ("node has fewer GPUs than the pod requests", "too few free GPUs")


def _reasons(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every reason against a node; a count of GPUs that kube-scheduler makes as well is not said twice."""
    found = list(row.get("refusals") or [row["rejection"]])
    counted = any(one.get("by") == "kube-scheduler" and one["reason"].startswith("Insufficient ") and "/" in one["reason"] for one in found)
    return [one for one in found if not (counted and one["reason"] in _COUNTS)]


def _inferred(told: Mapping[str, Any] | None) -> list[Text]:
    """What its command lines tell, and what looks wrong."""
    if not told:
        return []
    facts = [Text(f"  inferred: {fact['fact']} {fact['value']} ({fact['from']})") for fact in told["facts"]]
    return facts + [Text(f"  warning: {warning}", style="yellow") for warning in told["warnings"]]


def _title(answer: Mapping[str, Any]) -> str:
    demand = answer["demand"]
    if "problem" in demand:
        return f"{answer.get('of', 'pod')}: {answer['pod']}: {demand['problem']}"
    of = f"{answer['of']}: " if not str(answer.get("of", "pod/")).startswith("pod/") else ""
    if not demand["gpus"] and not demand.get("slices"):
        return f"{of}{answer['pod']} asks for no GPU: kube-scheduler chooses by its own scores"
    slices = "".join(f" and {count} {resource}" for resource, count in demand.get("slices", {}).items())
    return f"{of}{answer['pod']} asks for {demand['gpus']} GPUs{slices}, per container {demand['gpus_per_container']}"


def _likely(row: Mapping[str, Any]) -> str:
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
    return Compact(table)


SHORT_LINKS = {"NVSwitch": "NVS"}
"""Words for the cells of a matrix; its title says the whole one."""


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
    if answer.get("cluster"):
        parts.append(Text(f"cluster: {answer['cluster']}"))
    return Group(*parts)
