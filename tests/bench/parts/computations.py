"""Part `compute`: two pure computations without a server: the first evaluation of a demand, and the fold of one event against pods."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from tests.bench.report_rows import Row
from tests.bench.run import Run

EVENT_AIM = 2.0
"""Largest accepted ratio of an event's cost with the most pods to that with none: the cost of one event does not depend on the others."""


def computations(run: Run) -> list[Row]:
    """Return the rows of the modules that exist: `first_sight` and `folding`."""
    rows: list[Row] = []
    if find_spec("tests.bench.first_sight"):
        run.say("first evaluation of each demand")
        rows += _first_sight(run.sizes.sight_states)
    if find_spec("tests.bench.folding"):
        run.say("the fold of one event")
        rows += _folding()
    return rows


def _first_sight(states: int) -> list[Row]:
    rows = []
    for one in import_module("tests.bench.first_sight").first_sight(states):
        case = f"first evaluation of {one.demand} GPUs, {one.states:,} states"
        rows.append(Row("compute", case, "ms, all states", 1000 * one.seconds))
        rows.append(Row("compute", case, "ms, slowest state", one.slowest_milliseconds))
    return rows


def _folding() -> list[Row]:
    costs = import_module("tests.bench.folding").fold_costs()
    alone = {event: seconds for pods, event, seconds in costs if pods == 0}
    rows = []
    for pods, event, seconds in costs:
        if pods:
            case, beside = f"{event}, {pods:,} other pods", 1e6 * alone[event]
            rows.append(Row("compute", case, "us per event", 1e6 * seconds, beside, "without other pods", EVENT_AIM))
        else:
            rows.append(Row("compute", event, "us per event", 1e6 * seconds))
    return rows
