"""The answer of `fabricwise slots` as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.console.fitted_tables import Column, FittedTable
from extender.decision.slots.slot_answer import CAUSES


def slots_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return the sentence, one line per row, what is lost by size, and what was not counted."""
    sizes = [slots["size"] for slots in answer["total"]["sizes"]]
    table = _table(answer["by"], sizes)
    rows = answer["rows"]
    for row in rows if len(rows) == 1 else [*rows, answer["total"]]:
        table.add(_line(row))
    is_shown = bool(rows) or bool(answer["total"]["nodes"])
    parts: list[RenderableType] = [Text(answer["summary"], style="bold"), *([table] if is_shown else [])]
    return Group(*parts, *_notes(answer, sizes))


def _table(name: str, sizes: Sequence[int]) -> FittedTable:
    first = (
        Column(name, 0, least_width=16),
        Column("nodes", 2, is_number=True),
        Column("GPUs", 3, is_number=True),
        Column("idle", 4, is_number=True),
    )
    by_size = [Column(f"of {_gpus(size)}", 0, is_number=True) for size in sizes]
    causes = [Column("lost to", 1, least_width=24)] if len(sizes) == 1 else []
    return FittedTable((*first, *by_size, *causes))


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    first = (row["name"], str(row["nodes"]), str(row["gpus"]), str(row["idle_gpus"]))
    sizes = row["sizes"]
    if len(sizes) == 1:
        return (*first, str(sizes[0]["now"]), _causes(sizes[0]["lost"]))
    return (*first, *(f"{slots['now']}{_lost(slots)}" for slots in sizes))


def _lost(slots: Mapping[str, Any]) -> str:
    lost = sum(slots["lost"].values())
    return f" ({lost} lost)" if lost else ""


def _causes(lost: Mapping[str, int]) -> str:
    return ", ".join(f"{count} to {CAUSES[cause]}" for cause, count in lost.items() if count)


def _notes(answer: Mapping[str, Any], sizes: Sequence[int]) -> Iterator[Text]:
    for slots in answer["total"]["sizes"] if len(sizes) > 1 else ():
        if any(slots["lost"].values()):
            yield Text(f"lost of {_gpus(slots['size'])}: {_causes(slots['lost'])}")
    if answer["rows_left_out"]:
        yield Text(f"{answer['rows_left_out']} more rows with fewer idle GPUs are not shown", style="dim")
    for entry in answer["not_counted"]:
        yield Text(f"not counted: {entry['nodes']} node{'s' if entry['nodes'] > 1 else ''}: {entry['reason']}", style="dim")
    if not answer["complete"]:
        yield Text(f"not complete: {answer['nodes_counted']} of {answer['nodes_known']} nodes were counted", style="bold yellow")
    yield Text(f"not checked: {'; '.join(answer['not_checked'])}", style="dim")


def _gpus(size: int) -> str:
    return f"{size} GPU{'s' if size > 1 else ''}"
