"""The verdicts on all nodes for the latest demands, as arrays: a request for thousands of nodes costs a few array operations.

A verdict depends on the demand and the node's state, so each demand has one column of verdicts with an entry per distinct state. Entries of
new states are filled when a request needs them; the verdicts themselves come from the evaluator.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_table import UNKNOWN, NodeTable, grown
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts, Valued, code_of
from extender.decision.evaluate.evaluator import Evaluator, evaluate_with_extra_pods, without_view
from extender.decision.evaluate.scorers import NO_PARTS, PARTS, Ranker, best_of
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.claims_on_node import all_on_view, is_same_on_every_node, on_view
from extender.decision.node.node_state import NodeView
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason
from extender.decision.state.pods import ExtraPods
from extender.decision.state.snapshot import Snapshot

_MOST_DEMANDS = 16
"""Demands that have a column; a column of 20,000 states takes 1.5 MB."""

_MOST_FOLLOWED = 500
"""Nodes of a new snapshot that a request takes over itself, in about 1 ms. Where more differ, the evaluation is `Unevaluated`."""

_MOST_FILLED = 100
"""States whose verdicts a request copies from the evaluator itself; as above."""

_MOST_EVALUATED = 4
"""States that a request evaluates itself; as above."""


@dataclass(frozen=True, slots=True)
class Unevaluated:
    """A request that needs more verdicts than it may compute itself; `VerdictTable.evaluate` computes them."""

    snapshot: Snapshot
    demand: Demand
    names: NodeNames


class _Column:
    """The verdicts for one demand, all computed with the same mix of sizes; arrays by entry of the `NodeTable`."""

    def __init__(self, mix: Mapping[int, float]) -> None:
        self.mix = mix
        self.versions = np.zeros(64, np.int64)
        """`NodeTable.versions` of the state that the verdict is about."""
        self.verdicts = np.empty(64, np.object_)
        self.codes = np.zeros(64, np.int16)
        self.parts = np.zeros((64, PARTS))
        """`Ranker.parts` of each verdict."""
        self.best_gbps: float | None = None
        self.values = np.zeros(64)
        """`Ranker.values` where the best candidate has `best_gbps`."""

    def make_room(self, entries: int) -> None:
        """Make room for this many entries."""
        self.versions, self.verdicts = grown(self.versions, entries - 1), grown(self.verdicts, entries - 1)
        self.codes, self.parts = grown(self.codes, entries - 1), grown(self.parts, entries - 1)
        self.values = grown(self.values, entries - 1)


class VerdictTable:
    """Verdicts by node name and demand, over the newest snapshot."""

    def __init__(self, evaluator: Evaluator, ranker: Ranker, lock: AbstractContextManager[object] | None = None) -> None:
        """Without a lock, only one thread may use the table."""
        self._evaluator, self._ranker = evaluator, ranker
        self._nodes = NodeTable()
        self._columns: OrderedDict[Demand, _Column] = OrderedDict()
        self._lock = lock or nullcontext()

    def verdicts(
        self, snapshot: Snapshot, demand: Demand, names: NodeNames, extra_pods: ExtraPods, *, to_rank: bool = False
    ) -> NodeVerdicts | Unevaluated:
        """Return the same as `evaluate_nodes`, unless that takes too long. `to_rank`: the nodes will be ranked."""
        with self._lock:
            if not self._nodes.follow(snapshot, _MOST_FOLLOWED):
                return Unevaluated(snapshot, demand, names)
            column = self._column(demand)
            entries = self._nodes.entry_of[self._nodes.rows_of(names)]
            outdated = self._outdated(column, entries)
            if self._is_much(demand, outdated):
                return Unevaluated(snapshot, demand, names)
            if outdated:
                of_view, views = self._evaluator.for_demand(demand), self._nodes.views
                self._fill(demand, column, outdated, [of_view(view) for entry in outdated if (view := views[entry]) is not None])
            objects, codes = column.verdicts[entries], column.codes[entries]
            with_extra_pods = self._nodes.positions(names, extra_pods) if extra_pods else ()
            known = self._evaluator.remembered(demand) if with_extra_pods and is_same_on_every_node(demand) else None
            corrected: dict[int, Verdict] = {}
            if not entries.all():
                corrected = {position: without_view(snapshot, names[position]) for position in np.flatnonzero(entries == UNKNOWN).tolist()}
            for position in with_extra_pods:
                name = names[position]
                view = snapshot.views[name]
                corrected[position] = evaluate_with_extra_pods(
                    self._evaluator, on_view(demand, view), view.state, all_on_view(extra_pods[name], view), known
                )
            for position, verdict in corrected.items():
                objects[position], codes[position] = verdict, code_of(verdict)
            return NodeVerdicts(objects, codes, self._valued(demand, column, entries, corrected) if to_rank else None)

    def _valued(self, demand: Demand, column: _Column, entries: NDArray[np.intp], corrected: Mapping[int, Verdict]) -> Valued:
        """Return what the nodes are worth. `corrected`: position -> the verdict that counts instead of that of the entry."""
        effective = column.parts[entries, -1]
        places, parts = list(corrected), self._parts_of(demand, list(corrected.values()))
        if places:
            effective[places] = parts[:, -1]
        best = best_of(effective)
        if column.best_gbps != best:
            column.best_gbps, column.values = best, self._ranker.values(demand, column.parts.T, best)
        values = column.values[entries]
        if places:
            values[places] = self._ranker.values(demand, parts.T, best)
        return Valued(best, values)

    def _parts_of(self, demand: Demand, verdicts: Sequence[Verdict]) -> NDArray[np.float64]:
        """Return the parts of verdicts, shape (verdicts, `PARTS`)."""
        each = [self._ranker.parts(demand, verdict) if verdict.feasible else NO_PARTS for verdict in verdicts]
        return np.array(each).reshape(len(verdicts), PARTS)

    def evaluate(self, unevaluated: Unevaluated) -> None:
        """Compute the verdicts that a request lacks. Takes long; the lock is held for about 1 ms at a time."""
        snapshot, demand = unevaluated.snapshot, unevaluated.demand
        mix, of_view = self._evaluator.size_mix, self._evaluator.for_demand(demand)
        is_followed = False
        while not is_followed:
            with self._lock:
                is_followed = snapshot.revision < self._nodes.revision or self._nodes.follow(snapshot, _MOST_FOLLOWED)
        with self._lock:
            outdated = self._outdated(self._column(demand), self._nodes.entry_of[self._nodes.rows_of(unevaluated.names)])
        for start in range(0, len(outdated), _MOST_FILLED):
            entries = outdated[start : start + _MOST_FILLED]
            verdicts: dict[int, tuple[NodeView, Verdict]] = {}
            for entry, view in [(entry, self._nodes.views[entry]) for entry in entries]:
                if view is not None:
                    verdicts[entry] = view, of_view(view)
                    self._parts_of(demand, (verdicts[entry][1],))
            with self._lock:
                column = self._column(demand)
                if column.mix is mix:
                    current = [entry for entry, (view, _) in verdicts.items() if self._nodes.views[entry] is view]
                    self._fill(demand, column, current, [verdicts[entry][1] for entry in current])

    def _column(self, demand: Demand) -> _Column:
        column = self._columns.get(demand)
        if column is None or column.mix is not self._evaluator.size_mix:
            self._columns[demand] = column = _Column(self._evaluator.size_mix)
            while len(self._columns) > _MOST_DEMANDS:
                self._columns.popitem(last=False)
        self._columns.move_to_end(demand)
        column.make_room(len(self._nodes.views))
        return column

    def _outdated(self, column: _Column, entries: NDArray[np.intp]) -> list[int]:
        """Return those of the entries whose verdict is missing, or is about an earlier state; each once."""
        outdated = entries[column.versions[entries] != self._nodes.versions[entries]]
        return np.unique(outdated).tolist() if len(outdated) else []

    def _is_much(self, demand: Demand, outdated: list[int]) -> bool:
        """Whether a request for which these entries are outdated would take too long to fill them itself."""
        if len(outdated) <= _MOST_EVALUATED:
            return False
        if len(outdated) > _MOST_FILLED or not is_same_on_every_node(demand):
            return True
        known, views = self._evaluator.remembered(demand), self._nodes.views
        return sum((view := views[entry]) is not None and view.state not in known for entry in outdated) > _MOST_EVALUATED

    def _fill(self, demand: Demand, column: _Column, filled: list[int], verdicts: list[Verdict]) -> None:
        """Fill entries with the verdicts on their present views."""
        if not filled:
            return
        present = self._nodes.versions
        column.codes[filled] = [code_of(verdict) for verdict in verdicts]
        objects = np.empty(len(verdicts), np.object_)
        objects[:] = verdicts
        column.verdicts[filled] = objects
        parts = column.parts[filled] = self._parts_of(demand, verdicts)
        column.values[filled] = self._ranker.values(demand, parts.T, column.best_gbps)
        # a verdict on an evaluation that raised is not kept: the evaluator repeats it after the next change of state
        column.versions[filled] = [
            0 if verdict.rejection is not None and verdict.rejection.reason is Reason.NOT_EVALUATED else present[entry]
            for entry, verdict in zip(filled, verdicts, strict=True)
        ]
