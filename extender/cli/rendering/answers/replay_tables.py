"""The answer of `replay` as text. The input is the plain data that `-o json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.console.cells import gbps

MOST_NODES = 5
"""Nodes of a decision that are shown."""


def replay_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return the numbers, then every listed decision with what differs."""
    replayed = answer["identical"] + answer["different"]
    parts: list[RenderableType] = [
        Text(f"{answer['decisions']} decisions, settings {answer['settings']}: {answer['identical']} of {replayed} identical", style="bold")
    ]
    if answer["not_replayable"]:
        causes = "; ".join(f"{count} because {why}" for why, count in answer["why_not_replayed"].items())
        parts.append(Text(f"{answer['not_replayable']} cannot be replayed: {causes}"))
    if answer["left_out"]:
        parts.append(Text(f"{answer['left_out']} further decisions did not fit into the snapshot"))
    for decision in answer["listed"]:
        parts += _decision(decision)
    listed_differences = sum(1 for decision in answer["listed"] if decision["identical"] is False)
    if answer["different"] > listed_differences:
        parts.append(Text(f"and {answer['different'] - listed_differences} more that differ"))
    return Group(*parts)


def _decision(decision: Mapping[str, Any]) -> list[RenderableType]:
    title = f"{decision['id']} {decision['verb']} {decision['pod']} on {decision['nodes']} nodes"
    if decision["why_not_replayed"]:
        return [Text(f"{title}: not replayed, {decision['why_not_replayed']}")]
    if decision["identical"]:
        return [Text(f"{title}: identical, decided: {_text(decision['decided']['before'])}")]
    lines: list[RenderableType] = [Text(title, style="bold")]
    for what in ("decided", "stall"):
        before, after = decision[what]["before"], decision[what]["after"]
        if before != after:
            lines.append(Text(f"  {what}: {_text(before)} -> {_text(after)}"))
    shown = decision["differences"][:MOST_NODES]
    lines += [Text(f"  {row['node']}: {_node(row['before'])} -> {_node(row['after'])}") for row in shown]
    more = decision["different_nodes"] - len(shown)
    return [*lines, Text(f"  and {more} more nodes")] if more > 0 else lines


def _text(value: str | None) -> str:
    return value if value is not None else "none"


def _node(answer: Mapping[str, Any]) -> str:
    """Return what is decided about a node, in a few words."""
    if not answer["feasible"]:
        return answer["reason"] or "not evaluated"
    score = "" if answer["score"] is None else f"score {answer['score']}, "
    return f"{score}{gbps(answer['effective_gbps'])} GB/s over the mix"
