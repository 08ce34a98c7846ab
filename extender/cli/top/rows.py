"""The two tables of `fabricwise top`: their columns, the order and the choice of their rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rich.text import Text

from extender.plain_text import plain

Row = Mapping[str, Any]
"""A node or a pod as the debug API answers it."""

UNKNOWN = "-"

STATE_STYLES = {"f": "green", "t": "cyan", "a": "yellow", "x": "bold red", "?": "magenta"}
"""Letter of a GPU's state in `/v1/cluster` -> style. The letter itself is shown, so that nothing depends on colour."""
LEGEND = "f free  t taken  a assumed  x excluded  ? not known which"


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    cell: Callable[[Row], Text]
    order: Callable[[Row], Any]
    """Sort key; rows where it is None come last in either direction."""
    descends: bool = False
    """Whether the largest value comes first at first."""


@lru_cache(maxsize=32_768)
def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key by which gpu-2 comes before gpu-10. It is kept, because thousands of rows are sorted with each update."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name) if part)


def name_of_pod(row: Row) -> str:
    """Return namespace/name."""
    return f"{row['namespace']}/{row['name']}"


def _text(value: Any, style: str = "") -> Text:
    return Text(UNKNOWN if value is None else plain(str(value)), style, no_wrap=True, overflow="ellipsis")


def _number(value: float | None, digits: int = 0, style: str = "") -> Text:
    return Text(UNKNOWN if value is None else f"{value:.{digits}f}", style, justify="right")


def gpu_letters(row: Row) -> Text:
    """Return one letter per GPU in the colour of its state."""
    letters = Text(no_wrap=True)
    for letter in str(row.get("states") or ""):
        letters.append(plain(letter), STATE_STYLES.get(letter, ""))
    return letters


def bar(share: float | None, width: int = 8) -> Text:
    """Return a share from 0 to 1 as a bar and a percentage; unknown where it is None."""
    if share is None:
        return Text(UNKNOWN)
    filled = round(max(0.0, min(1.0, share)) * width)
    style = "red" if share >= 0.9 else "yellow" if share >= 0.6 else "green"
    return Text.assemble(("█" * filled, style), ("░" * (width - filled), "dim"), f" {share:>4.0%}")


def memory_bar(total_bytes: int | None, used_bytes: int | None, unknown_bytes: int | None, width: int = 12) -> Text:
    """Return the memory of a GPU as a bar: that of known pods, that of processes unknown to Kubernetes, and what is free."""
    if not total_bytes or used_bytes is None:
        return Text(UNKNOWN)
    strangers = round(min(unknown_bytes or 0, used_bytes) / total_bytes * width)
    filled = max(strangers, min(width, round(used_bytes / total_bytes * width)))
    parts = (("█" * (filled - strangers), "cyan"), ("▓" * strangers, "bold red"), ("░" * (width - filled), "dim"))
    return Text.assemble(*parts, f" {used_bytes / total_bytes:>4.0%} of {total_bytes / 2**30:.0f} GiB")


def _node_name(row: Row) -> Text:
    why = row.get("why_unschedulable")
    return _text(f"{row['name']} ({why})" if why else row["name"], "dim" if why else "bold")


def _slower_than_floor(row: Row) -> bool:
    floor, real = row.get("floor_gbps"), row.get("busbw_gbps")
    return floor is not None and real is not None and real < floor


NODE_COLUMNS: tuple[Column, ...] = (
    Column("NODE", _node_name, lambda row: natural(row["name"])),
    Column("PRODUCT", lambda row: _text(row.get("product")), lambda row: row.get("product")),
    Column("FABRIC", lambda row: _text(row.get("fabric")), lambda row: row.get("fabric")),
    Column("GPUS", gpu_letters, lambda row: row.get("gpus"), descends=True),
    Column("FREE", lambda row: _number(row.get("free")), lambda row: row.get("free"), descends=True),
    Column("PRESSURE", lambda row: bar(row.get("pressure")), lambda row: row.get("pressure"), descends=True),
    Column("PODS", lambda row: _number(row.get("pods")), lambda row: row.get("pods"), descends=True),
    Column(
        "PROBLEMS",
        lambda row: _number(row.get("problems"), style="bold red" if row.get("problems") else "dim"),
        lambda row: row.get("problems"),
        descends=True,
    ),
)

_POD_STYLES = {"pending": "yellow", "assumed": "cyan", "terminating": "dim"}

POD_COLUMNS: tuple[Column, ...] = (
    Column("POD", lambda row: _text(name_of_pod(row), "bold"), lambda row: natural(name_of_pod(row))),
    Column("STATE", lambda row: _text(row["state"], _POD_STYLES.get(row["state"], "green")), lambda row: row["state"]),
    Column("GPUS", lambda row: _number(row.get("gpus")), lambda row: row.get("gpus"), descends=True),
    Column("NODE", lambda row: _text(row.get("node")), lambda row: row.get("node")),
    Column("DEVICES", lambda row: _text(_devices(row)), lambda row: row.get("devices")),
    Column(
        "GB/s",
        lambda row: _number(row.get("busbw_gbps"), 1, "bold red" if _slower_than_floor(row) else ""),
        lambda row: row.get("busbw_gbps"),
    ),
    Column("EXPECTED", lambda row: _number(row.get("expected_gbps"), 1), lambda row: row.get("expected_gbps"), descends=True),
    Column("FLOOR", lambda row: _number(row.get("floor_gbps"), 0), lambda row: row.get("floor_gbps"), descends=True),
    Column("PRIORITY", lambda row: _number(row.get("priority")), lambda row: row.get("priority"), descends=True),
)


def _devices(row: Row) -> str | None:
    devices = row.get("devices")
    return None if devices is None else ",".join(str(index) for index in devices)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Which rows are shown, and in which order."""

    column: int = 0
    """Index of the column that the rows are sorted by."""
    is_reversed: bool = False
    search: str = ""
    """Rows without this text in a cell are left out; case does not matter."""


def arranged(
    rows: Sequence[Row],
    columns: Sequence[Column],
    arrangement: Arrangement,
    key: Callable[[Row], str],
    cells: Callable[[Row], Sequence[Text]] | None = None,
) -> list[Row]:
    """Return the rows that match, in order. Rows that are equal in the sorted column are in the order of `key`.

    `cells`: row -> its cells, where they are kept; else they are made for the search.
    """
    column = columns[arrangement.column]
    wanted = arrangement.search.casefold()
    cells_of = cells or (lambda row: tuple(column.cell(row) for column in columns))
    kept = sorted((row for row in rows if not wanted or wanted in _searched(row, cells_of(row))), key=lambda row: natural(key(row)))
    known = [row for row in kept if column.order(row) is not None]
    known.sort(key=column.order, reverse=column.descends != arrangement.is_reversed)
    return known + [row for row in kept if column.order(row) is None]


def _searched(row: Row, cells: Sequence[Text]) -> str:
    message = row.get("message") or ""
    return " ".join([*(cell.plain for cell in cells), str(message)]).casefold()


def headline(cluster: Row) -> Text:
    """Return the totals of the cluster in one line: GPUs by state, pending pods, and the age of the data."""
    totals = cluster.get("totals") or {}
    gpus = totals.get("gpus") or 0
    parts = [("free", "green"), ("taken", "cyan"), ("assumed", "yellow"), ("excluded", "bold red"), ("unknown", "magenta")]
    line = Text.assemble((plain(str(cluster.get("cluster") or "cluster")), "bold"), f" · {totals.get('nodes', 0)} nodes · {gpus} GPUs: ")
    for number, (name, style) in enumerate((part for part in parts if totals.get(part[0])), 1):
        line.append(("" if number == 1 else ", ") + f"{totals[name]} {name}", style)
    pending = cluster.get("pending") or 0
    line.append(f" · {pending} pod{'' if pending == 1 else 's'} pending", "yellow" if pending else "dim")
    return line


def age_of(cluster: Row, received_seconds_ago: float) -> Text:
    """Return how old the data are, and whether that is too old."""
    age = (cluster.get("state_age_seconds") or 0.0) + received_seconds_ago
    if not cluster.get("synced", True):
        return Text("not listed yet: " + ", ".join(plain(str(kind)) for kind in cluster.get("missing") or ()), "bold yellow")
    return Text(f"data {age:.0f} s old", "bold red" if age >= STALE_SECONDS else "dim")


STALE_SECONDS = 15.0
"""From this age on, data are shown as stale."""
