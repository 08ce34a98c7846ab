"""The rows of all pods, made anew: what a table of rows that is kept must show."""

from __future__ import annotations

from collections.abc import Iterable

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.live.pod_rows import PodRow, pod_keys, pod_row, pod_source, worst_key


def all_pod_rows(moment: Moment) -> list[PodRow]:
    """Return the row of every pod that requests GPUs, by namespace and name, without outcomes of predictions."""
    sources = ((key, pod_source(moment, key)) for key in pod_keys(moment))
    return sorted((pod_row(key, source) for key, source in sources if source is not None), key=lambda row: row.position)


def worst_first(rows: Iterable[PodRow]) -> list[PodRow]:
    """Return the rows in the order of `worst_key`."""
    return sorted(rows, key=worst_key)
