"""The answer of `why` as text: the sentence, the remedies, then the nodes by reason. The input is the plain data that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from extender.cli.rendering.console.cells import few, gbps, gpu_set
from extender.plain_text import plain

MOST_NAMES = 5
MOST_NEIGHBOURS = 8


def why_text(answer: Mapping[str, Any]) -> RenderableType:
    """Return the answer for one pod."""
    parts: list[RenderableType] = [Text(f"{answer['pod']}: {answer['state']}", style="bold"), Text(answer["sentence"])]
    parts += _remedies(answer["remedies"])
    if answer["placement"]:
        parts += _placement(answer["placement"])
    parts += _groups(answer)
    parts += _reported(answer["reported"])
    if answer.get("alike"):
        parts.append(Text(f"{answer['alike']} more pods of it wait for the same reason"))
    if answer.get("state_age_seconds"):
        parts.append(Text(f"no contact with the API server for {answer['state_age_seconds']:.0f} s: the state is that old", style="yellow"))
    if not answer["complete"]:
        parts.append(Text("the time was over before all remedies were looked for", style="yellow"))
    parts += [_indented(f"not checked: {check}", "dim") for check in answer["not_checked"]]
    if answer.get("cluster"):
        parts.append(Text(f"cluster: {answer['cluster']}", style="dim"))
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Indented:
    """A text whose folded lines are indented too, for narrow terminals, without spaces at their ends."""

    text: str
    style: str
    by: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        width = max(20, options.max_width - self.by)
        for line in Text(plain(self.text), style=self.style).wrap(console, width):
            line.rstrip()
            yield Text(" " * self.by).append_text(line)


def _indented(text: str, style: str = "", by: int = 2) -> RenderableType:
    return _Indented(text, style, by)


def _remedies(remedies: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not remedies:
        return []
    lines: list[RenderableType] = [Text("what helps, cheapest first:", style="bold")]
    return lines + [_indented(f"{number}. {remedy['text']}") for number, remedy in enumerate(remedies, 1)]


def _groups(answer: Mapping[str, Any]) -> list[RenderableType]:
    groups, fits = answer["groups"], answer["fits"]
    lines: list[RenderableType] = []
    if fits:
        speed = f", {gbps(fits['bandwidth_gbps'])} GB/s expected" if fits["bandwidth_gbps"] is not None else ""
        likely = f", likely GPUs {gpu_set(fits['gpus'])} ({fits['probability']:.0%})" if fits["gpus"] else ""
        lines.append(Text(f"fits on {_nodes(fits['nodes'])}, first {fits['node']}{speed}{likely}"))
    if groups:
        lines.append(Text("nodes by reason:", style="bold"))
    for group in groups:
        named = f": {_few_of(group)}" if group["names"] else ""
        lines.append(_indented(f"{_nodes(group['nodes'])}{named}"))
        for cause in group["causes"]:
            details = f": {'; '.join(cause['details'])}" if cause["details"] else ""
            lines.append(_indented(f"{cause['by']}: {cause['reason']}{details}", "dim", 4))
    return lines


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _few_of(group: Mapping[str, Any]) -> str:
    names = group["names"][:MOST_NAMES]
    more = group["nodes"] - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _reported(report: Mapping[str, Any] | None) -> list[RenderableType]:
    if not report:
        return []
    age = f", {report['age_seconds']:.0f} s ago" if report["age_seconds"] is not None else ""
    times = f", {report['attempts']} attempts" if report["attempts"] > 1 else ""
    older = " (older than the state now)" if report["is_older"] else ""
    scheduler = report["scheduler"] or "kube-scheduler"
    return [_indented(f"{scheduler} said{age}{times}{older}: {report['message']}", "dim", 0)]


def _placement(placement: Mapping[str, Any]) -> list[RenderableType]:
    gpus = gpu_set(placement["gpus"]) if placement["gpus"] else "not known"
    lines = [f"node {placement['node']}, GPUs {gpus}"]
    lines.append(f"bandwidth: {gbps(placement['actual_gbps'])} GB/s, predicted {gbps(placement['predicted_gbps'])}")
    if placement["best_on_node_gpus"]:
        best = gpu_set(placement["best_on_node_gpus"])
        lines.append(f"best set of the node when empty: {best}, {gbps(placement['best_on_node_gbps'])} GB/s")
    lines += [f"limit: {limit}" for limit in placement["limits"]]
    lines += [f"fault: {fault}" for fault in placement["faults"]]
    better = placement["better"]
    if better:
        gain = f", {gbps(placement['gain_gbps'])} GB/s more" if placement["gain_gbps"] is not None else ""
        lines.append(f"free now: GPUs {gpu_set(better['gpus'])} of {better['node']}{gain}")
    neighbours = [_neighbour(each) for each in placement["neighbours"]]
    if neighbours:
        lines.append(f"neighbours: {few(neighbours, MOST_NEIGHBOURS)}")
    return [_indented(line) for line in lines]


def _neighbour(neighbour: Mapping[str, Any]) -> str:
    gpus = gpu_set(neighbour["indices"]) if neighbour["indices"] else f"{neighbour['gpus']} GPUs"
    busy = f", {neighbour['busy']:.0%} busy" if neighbour["busy"] is not None else ""
    return f"{neighbour['pod']} {gpus}{busy}"
