"""What the benchmark reports: rows, shown as one table and written as JSON with the same columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of Fabricwise, and beside it the same figure of what it is compared with, taken in the same run."""

    part: str
    case: str
    """What was done, for example `filter, 500 names, 10 states`."""
    figure: str
    """What was measured, with its unit, for example `p50 ms`."""
    value: float
    """Fabricwise's figure."""
    beside: float | None = None
    """The figure of what it is compared with."""
    beside_name: str = ""
    aim: float | None = None
    """Largest accepted `ratio`, or `value` where there is no ratio; smallest where `more_is_better`."""
    more_is_better: bool = False
    rivals: dict[str, float] = field(default_factory=dict)
    """Name of a rival -> its figure."""

    @property
    def ratio(self) -> float | None:
        """`value` divided by `beside`."""
        return self.value / self.beside if self.beside else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without an aim."""
        if self.aim is None:
            return None
        figure = self.value if self.ratio is None else self.ratio
        return figure >= self.aim if self.more_is_better else figure <= self.aim

    def as_json(self) -> dict[str, Any]:
        """Return all columns."""
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


COLUMNS = ("part", "case", "figure", "Fabricwise", "beside", "", "ratio", "aim", "met")


def table(rows: Sequence[Row]) -> Table:
    """Return one table of all rows; each rival is a column."""
    rivals = list(dict.fromkeys(name for row in rows for name in row.rivals))
    result = Table(title="Fabricwise beside what it is compared with, in one run", title_justify="left")
    for name in (*COLUMNS[:6], *rivals, *COLUMNS[6:]):
        result.add_column(name, justify="left" if name in ("part", "case", "figure", "") else "right", overflow="fold")
    before = ""
    for row in rows:
        if before and row.part != before:
            result.add_section()
        told = [row.part if row.part != before else "", row.case, row.figure, number(row.value), number(row.beside), row.beside_name]
        told += [number(row.rivals.get(name)) for name in rivals]
        sign = "" if row.aim is None else "\N{GREATER-THAN OR EQUAL TO} " if row.more_is_better else "\N{LESS-THAN OR EQUAL TO} "
        verdict = {True: "yes", False: "[red]no[/red]", None: ""}[row.met]
        result.add_row(*told, number(row.ratio), f"{sign}{number(row.aim)}", verdict)
        before = row.part
    return result


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, for the documentation."""
    lines = ["| part | case | figure | Fabricwise | beside | ratio | aim | met |", "|---|---|---|--:|--:|--:|--:|---|"]
    for row in rows:
        sign = "" if row.aim is None else "\N{GREATER-THAN OR EQUAL TO} " if row.more_is_better else "\N{LESS-THAN OR EQUAL TO} "
        beside = f"{number(row.beside)} {row.beside_name}".strip()
        verdict = {True: "yes", False: "**no**", None: ""}[row.met]
        cells = (row.part, row.case, row.figure, number(row.value), beside, number(row.ratio), f"{sign}{number(row.aim)}", verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Return a figure with three digits; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
