"""Answers of `explain` as tables. The input is the plain data that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.console.cells import few, gbps, gpu_set
from extender.cli.rendering.console.fitted_tables import Column, FittedTable

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
    """Return the answer of `explain` for one pod, or for several pod templates one below the other."""
    parts: list[RenderableType] = []
    for of_one_pod in answer.get("explanations") or [answer]:
        parts += [explanation(of_one_pod), Text("")]
    if answer.get("cluster"):
        parts.append(Text(f"cluster: {answer['cluster']}"))
    return Group(*parts)


def explanation(answer: Mapping[str, Any]) -> RenderableType:
    """Return the answer for one pod: feasible nodes as a table, refused nodes by reason, the choice, its scores, unchecked conditions."""
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
        parts.append(Text(f"no contact with the API server for {age:.0f} s: the state is that old", style="yellow"))
    parts += [*_scores(answer), *_inferred(answer.get("inferred"))]
    parts += [Text(f"  not checked: {check}", style="dim") for check in answer.get("not_checked", ())]
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
    """Return the refused nodes, grouped by their reasons as in kube-scheduler's events; each detail once."""
    groups: dict[tuple[tuple[str, str], ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if not row["feasible"]:
            key = tuple((rejection.get("by", "fabricwise"), rejection["reason"]) for rejection in _reasons(row))
            groups.setdefault(key, []).append(row)
    refused = sum(map(len, groups.values()))
    lines = [Text(f"refused: {refused} node{'s' if refused > 1 else ''}", style="bold")] if groups else []
    for reasons, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(Text(f"  {len(group)}: {few([row['node'] for row in group], 5)}"))
        for position, (by, reason) in enumerate(reasons):
            details: dict[str, list[str]] = {}
            for row in group:
                details.setdefault(_reasons(row)[position]["detail"], []).append(row["node"])
            texts = [f"{detail}{f' ({few(nodes)})' if len(details) > 1 else ''}" for detail, nodes in details.items() if detail]
            more = f"; {len(texts) - MOST_DETAILS} more" if len(texts) > MOST_DETAILS else ""
            lines.append(Text(f"    {by}: {reason}{': ' if texts else ''}{'; '.join(texts[:MOST_DETAILS])}{more}", style="dim"))
    return lines


MOST_DETAILS = 3
"""Most different details shown per reason; `-o json` has the detail of every node."""
_COUNTS = ("node has fewer GPUs than the pod requests", "too few free GPUs")


def _reasons(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rejections of a node, without those about GPU counts if kube-scheduler rejects the node for its GPU count as well."""
    rejections = list(row.get("refusals") or [row["rejection"]])
    is_counted = any(
        rejection.get("by") == "kube-scheduler" and rejection["reason"].startswith("Insufficient ") and "/" in rejection["reason"]
        for rejection in rejections
    )
    return [rejection for rejection in rejections if not (is_counted and rejection["reason"] in _COUNTS)]


def _inferred(inferred: Mapping[str, Any] | None) -> list[Text]:
    """Return the facts inferred from the pod's command lines, and the warnings about them."""
    if not inferred:
        return []
    facts = [Text(f"  inferred: {fact['fact']} {fact['value']} ({fact['from']})") for fact in inferred["facts"]]
    return facts + [Text(f"  warning: {warning}", style="yellow") for warning in inferred["warnings"]]


def _title(answer: Mapping[str, Any]) -> str:
    demand = answer["demand"]
    if "problem" in demand:
        return f"{answer.get('of', 'pod')}: {answer['pod']}: {demand['problem']}"
    of = f"{answer['of']}: " if not str(answer.get("of", "pod/")).startswith("pod/") else ""
    if claims := demand.get("claims"):
        requested = [f"{request['count']} of {request['class']}" for request in claims["requests"]]
        return f"{of}{answer['pod']} asks by claims for {', '.join(requested) or claims['unknown'] or 'what is allocated already'}"
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
