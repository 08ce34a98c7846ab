"""The answer of `fabricwise defrag` as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.console.fitted_tables import Column, FittedTable
from extender.decision.disruption.evictions import GroupRestart, restart_text

COLUMNS = (
    Column("step", 0, is_number=True),
    Column("gain", 0, is_number=True),
    Column("move", 0, least_width=16),
    Column("owner", 2, least_width=16),
    Column("GPUs", 1, is_number=True),
    Column("from", 0, least_width=12),
    Column("to", 0, least_width=12),
    Column("priority", 3, is_number=True),
    Column("budget", 4, least_width=12),
)


def defrag_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return the sentence, one line per move, why other pods stay, and that nothing was changed."""
    table = FittedTable(COLUMNS)
    for number, step in enumerate(answer["steps"], 1):
        for place, move in enumerate(step["moves"]):
            first = (str(number), str(step["gain"])) if not place else ("", "")
            pod = f"{move['namespace']}/{move['name']}"
            rest = (move["owner"], str(move["gpus"]), move["from_node"], move["to_node"], str(move["priority"]), move["budget"] or "")
            table.add((*first, pod, *rest))
    parts: list[RenderableType] = [Text(answer["summary"], style="bold")]
    if answer["steps"]:
        parts += [table, *_restarts(answer), Text(answer["how"])]
    return Group(*parts, *_notes(answer))


def _restarts(answer: Mapping[str, Any]) -> Iterator[Text]:
    """Yield a sentence per moved pod whose group restarts as a whole."""
    for step in answer["steps"]:
        for move in step["moves"]:
            if move.get("restarts"):
                restart = msgspec.convert(move["restarts"], GroupRestart)
                yield Text(f"{move['namespace']}/{move['name']}: {restart_text(restart)}.", style="yellow")


def _notes(answer: Mapping[str, Any]) -> Iterator[Text]:
    for entry in answer["left_out"]:
        more = entry["pods"] - len(entry["examples"])
        names = ", ".join(entry["examples"]) + (f" and {more} more" if more else "")
        yield Text(f"not moved: {names}: {entry['reason']}", style="dim")
    if not answer["complete"]:
        yield Text("not complete: the search ended at its bounds; further moves may help", style="bold yellow")
    yield Text(f"not checked: {'; '.join(answer['not_checked'])}", style="dim")
    yield Text(answer["note"])
