"""Demand and node state -> verdict, and the memory that makes a repeated question cheap.

A verdict depends on nothing but its two arguments, so it is kept per demand and state: five thousand nodes of forty
distinct states cost forty judgements the first time and five thousand look-ups after.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from msgspec.structs import replace

from extender.decision import links
from extender.decision.beliefs import MOST_BELIEFS
from extender.decision.claims_on_node import for_node, guests_on
from extender.decision.cluster import NodeState, NodeView, Snapshot
from extender.decision.demand import Demand
from extender.decision.filters import refuse
from extender.decision.holds import NO_GUESTS, Guests
from extender.decision.isolation import described, view_key
from extender.decision.live_filters import refuse_live
from extender.decision.pressure import pressure
from extender.decision.reasons import Reason, Rejection
from extender.decision.rules import RULES, Rules, learnt_mix
from extender.decision.standing import NOTHING
from extender.decision.verdict import MOST_PROSPECTS, Evidence, Prospect, Verdict, support_of, verdict_of
from extender.decision.views import with_guests
from topology.hardware import positions_of
from topology.placement import DEFAULT_SIZE_MIX, PlacementTable
from topology.prediction import Outcome

STALE_TELEMETRY = "telemetry of some GPUs is stale and counts as unknown"
APPROXIMATE = "prediction is approximate"
HAZARD = "hazard: the device plugin may return a nil device for this request and crash"

_MOST_DEMANDS = 32
_PREPARED_DEMANDS = 8
_SPARE_STATES = 1_000
_MOST_VERDICTS = 100_000
"""Over all demands; some 2 KB each."""

UNKNOWN_NODE = verdict_of(Rejection(Reason.UNKNOWN_NODE, "no Node of that name has been seen on the watch"), Evidence())


Failed = Callable[[Demand, NodeState, Exception], None]
"""Told that the evaluation of a node state raised, and for which demand."""


@dataclass(slots=True)
class _Remembered:
    """The verdicts on one demand, all by one mix of sizes."""

    mix: Mapping[int, float]
    verdicts: dict[NodeState, Verdict] = field(default_factory=dict)
    below: dict[NodeState, Verdict] = field(default_factory=dict)
    """Verdicts but for telemetry, of bare states."""


class Judge:
    """Judges, and remembers. Holds no cluster state: forgetting changes no answer.

    Safe to be called from several threads, given a lock. The lock guards which demands are remembered; it is taken once per question and
    demand, not per node. The verdicts of one demand are in a plain dictionary that only grows and is replaced as a whole, so a thread that
    still reads a replaced one reads right verdicts.
    """

    def __init__(self, rules: Rules, lock: AbstractContextManager[object] | None = None, failed: Failed | None = None) -> None:
        """Where the rules name no mix of sizes it is learnt: see `prepare`. Without a lock it serves one thread alone."""
        self._rules, self._learns, self._lock, self._failed = rules, rules.size_mix is None, lock or nullcontext(), failed
        self._mix: Mapping[int, float] = rules.size_mix or DEFAULT_SIZE_MIX
        self._memory: OrderedDict[Demand, _Remembered] = OrderedDict(
            (Demand(((size, False),), size), _Remembered(self._mix))
            for size in self._mix  # the commonest first questions
        )
        """By the time of the last question, the latest last."""
        self._broken: list[tuple[_Remembered, NodeState]] = []
        """Evaluations that raised: forgotten with the next change of state, so that each is tried anew then, but not for every question."""

    @property
    def size_mix(self) -> Mapping[int, float]:
        """The mix of sizes that fragmentation is measured against now."""
        return self._mix

    def remembered(self, demand: Demand) -> dict[NodeState, Verdict]:
        """The verdicts on one demand so far; `judge` fills it."""
        return self._recall(demand).verdicts

    def _recall(self, demand: Demand) -> _Remembered:
        with self._lock:
            memory = self._memory.get(demand)
            if memory is None:
                while len(self._memory) >= _MOST_DEMANDS:
                    self._memory.popitem(last=False)
                memory = self._memory[demand] = _Remembered(self._mix)
            else:
                self._memory.move_to_end(demand)
            return memory

    def learn(self, snapshot: Snapshot) -> bool:
        """Take over the mix of sizes that the cluster's pods ask for, unless the rules name one. True where that changes it:
        what was judged by the old one is forgotten."""
        mix = learnt_mix(snapshot.sizes) if self._learns else self._mix
        if mix == self._mix:
            return False
        with self._lock:
            self._mix = mix
            for demand in self._memory:
                self._memory[demand] = _Remembered(mix)
        return True

    def prepare(self, states: Iterable[NodeState], snapshot: Snapshot) -> None:
        """Judge new states for the demands asked last, before anybody waits for the answer; forget states long gone.

        Verdicts on states no node is in are kept until they outnumber the nodes: a node often comes back to a state it
        was in. When what pods ask for has shifted, all is judged anew by the new mix of sizes.
        """
        views = snapshot.views.values()
        if self.learn(snapshot):
            states = {view.state for view in views}
        with self._lock:
            self._forget(views)
            recent = list(self._memory.items())[-_PREPARED_DEMANDS:]
        for state in states:
            for demand, memory in recent:
                self._judged(demand, state, memory)

    def _forget(self, views: Collection[NodeView]) -> None:
        """Under the lock."""
        for memory, state in self._broken:
            memory.verdicts.pop(state, None)
        self._broken = []
        for demand, memory in self._memory.items():
            if len(memory.verdicts) > 2 * len(views) + _SPARE_STATES:
                live = {state for view in views for state in (view.state, view.state.bare) if state is not None}
                self._memory[demand] = _Remembered(memory.mix, _kept(memory.verdicts, live), _kept(memory.below, live))
                break  # one demand per change of state: a verb waits for no more
        while len(self._memory) > 1 and sum(len(memory.verdicts) for memory in self._memory.values()) > _MOST_VERDICTS:
            self._memory.popitem(last=False)

    def judge(self, demand: Demand, state: NodeState) -> Verdict:
        """The verdict on one node state, from memory where it is there. An evaluation that raises is a refusal, see `broken`."""
        return self._judged(demand, state, self._recall(demand))

    def _judged(self, demand: Demand, state: NodeState, memory: _Remembered) -> Verdict:
        """Links are judged once for all states that differ by telemetry alone; telemetry is laid over that."""
        verdict = memory.verdicts.get(state)
        if verdict is None:
            try:
                bare = state.bare or state
                below = memory.below.get(bare)
                if below is None:
                    below = memory.below[bare] = judge_bare(demand, bare, memory.mix, self._rules)
                verdict = overlaid(demand, state, below, self._rules)
            except Exception as error:  # whatever is wrong with this state must not harm the answer about others
                verdict = self.broken(demand, state, error)
                with self._lock:
                    self._broken.append((memory, state))
            memory.verdicts[state] = verdict
        return verdict

    def broken(self, demand: Demand, state: NodeState, error: Exception) -> Verdict:
        """The verdict on a node whose evaluation raised: a refusal that no eviction cures, for nothing is known of what one would do."""
        if self._failed is not None:
            self._failed(demand, state, error)
        return verdict_of(Rejection(Reason.NOT_EVALUATED, described(error)), Evidence(notes=(state.note,)))


def _kept(verdicts: dict[NodeState, Verdict], live: Collection[NodeState]) -> dict[NodeState, Verdict]:
    return {state: verdict for state in live if (verdict := verdicts.get(state)) is not None}


def judge_all(
    judge: Judge, snapshot: Snapshot, demand: Demand | Rejection, names: Sequence[str], guests: Guests = NO_GUESTS
) -> list[Verdict]:
    """A verdict per name, in order. A demand that is itself a refusal refuses every node; claims are read for each node.

    `guests`: pods to reckon with on some nodes beside those that the snapshot shows there.
    """
    if isinstance(demand, Rejection):
        return [verdict_of(demand, Evidence())] * len(names)
    views, memory, judged = snapshot.views, judge.remembered(demand), judge.judge
    verdicts: list[Verdict] = []
    for name in names:
        view = views.get(name)
        if view is None:
            verdicts.append(_without_view(snapshot, name))
        else:
            state = view.state
            if demand.claims is not None or (demand.slices and view.dra is not None):
                verdicts.append(judged(for_node(demand, view, snapshot.dra), state))
            else:
                verdicts.append(memory.get(state) or judged(demand, state))
    for place, name in enumerate(names) if guests else ():
        if name in guests and name in views:
            view = views[name]
            wanted, others = for_node(demand, view, snapshot.dra), guests_on(guests[name], view, snapshot.dra)
            verdicts[place] = judge_with_guests(judge, wanted, view.state, others)
    return verdicts


def judge_with_guests(judge: Judge, demand: Demand, state: NodeState, guests: tuple[Demand, ...]) -> Verdict:
    """The verdict on a node with further pods on it that the snapshot does not show there."""
    try:
        crowded = with_guests(state, guests)
    except Exception as error:  # see `Judge._judged`
        return judge.broken(demand, state, error)
    return judge.judge(demand, crowded)


def _without_view(snapshot: Snapshot, name: str) -> Verdict:
    """The verdict on a node that nothing is known of, or of which no state could be derived."""
    aside = snapshot.set_aside.get(view_key(name))
    return UNKNOWN_NODE if aside is None else verdict_of(Rejection(Reason.NOT_EVALUATED, aside.why), Evidence())


def judge(demand: Demand, state: NodeState, mix: Mapping[int, float], rules: Rules = RULES) -> Verdict:
    """The verdict on one node state. Pure; `mix` weights the sizes later pods will ask for."""
    return overlaid(demand, state, judge_bare(demand, state, mix, rules), rules)


def overlaid(demand: Demand, state: NodeState, below: Verdict, rules: Rules) -> Verdict:
    """A verdict without telemetry, and what telemetry makes of it."""
    evidence, live = below.evidence, state.live
    if not below.feasible or not (demand.total or demand.slices):
        return below
    rejection = refuse_live(demand, state, evidence.marginals, rules)
    if live is NOTHING and rejection is None:
        return below
    if live.stale:
        evidence = replace(evidence, notes=(*evidence.notes, STALE_TELEMETRY))
    if rejection is not None:
        return verdict_of(rejection, Evidence(gpu_memory_bytes=evidence.gpu_memory_bytes, notes=evidence.notes))
    if state.table is None:
        return verdict_of(None, evidence)
    return verdict_of(None, replace(evidence, pressure=pressure(state.burden, evidence.marginals, rules.neutral_pressure)))


def judge_bare(demand: Demand, state: NodeState, mix: Mapping[int, float], rules: Rules = RULES) -> Verdict:
    """The verdict but for telemetry."""
    rejection = refuse(demand, state, rules)
    unjudged = state.unjudged if demand.requests is None and demand.total else None
    notes = (state.note, *(note for note in (unjudged, demand.unranked) if note is not None))
    if rejection is not None:
        return verdict_of(rejection, Evidence(gpu_memory_bytes=state.gpu_memory_bytes, notes=notes))
    if state.table is None or not demand.total or unjudged is not None:
        return verdict_of(None, Evidence(gpu_memory_bytes=state.gpu_memory_bytes, notes=notes))
    return verdict_of(None, _evidence(demand, state, state.table, mix, demand.wishes.messages or rules.messages))


def _evidence(demand: Demand, state: NodeState, table: PlacementTable, mix: Mapping[int, float], messages: str) -> Evidence:
    sets: dict[tuple[int, float | None], float] = {}
    effective = 0.0
    approximate = hazard = False
    loss = least = weight = 0.0
    extremes: list[float] = []
    for free, belief in state.beliefs:
        prediction = table.predictor.predict(free, demand.asks, state.kubelet)
        approximate, hazard = approximate or prediction.approximate, hazard or prediction.hazard
        before = table.capability(free, mix)
        for outcome in prediction.outcomes:
            chance = belief * outcome.probability
            key = (outcome.taken, _slowest(table, outcome))
            sets[key] = sets.get(key, 0.0) + chance
            effective += chance * (_least_effective(table, outcome, messages) or 0.0)
            loss += chance * (before - table.capability(free & ~outcome.taken, mix))
            weight += chance
        least += belief * min((before - table.capability(free & ~o.taken, mix) for o in prediction.outcomes), default=0.0)
        extremes += _extremes(demand, table, free)
    total = weight or 1.0
    chances, speeds_of = _by_set(sets)
    ranked = sorted(chances.items(), key=lambda item: (-item[1], item[0]))
    speeds = [(speed, chance / total) for (_, speed), chance in sets.items() if speed is not None]
    extremes += [speed for speed, _ in speeds] if len(demand.groups) != 1 else []
    expected = sum(speed * chance for speed, chance in speeds) if speeds else None
    return Evidence(
        best_gbps=max(extremes, default=None),
        expected_gbps=round(expected, 6) if expected is not None else None,
        worst_gbps=min(extremes, default=None),
        effective_gbps=round(effective / total, 6) if speeds else None,
        prospects=tuple(
            Prospect(tuple(sorted(state.indices[p] for p in positions_of(mask))), round(chance / total, 6), *speeds_of[mask])
            for mask, chance in ranked[:MOST_PROSPECTS]
        ),
        further_sets=len(ranked[MOST_PROSPECTS:]),
        further_probability=round(sum(chance for _, chance in ranked[MOST_PROSPECTS:]) / total, 6),
        support=support_of(chances),
        support_complete=not approximate and len(state.beliefs) < MOST_BELIEFS,
        worst_rank=_worst_rank(demand, state, table),
        marginals=_marginals(sets, table.size, total),
        loss=max(0.0, loss / total),
        least_loss=max(0.0, least),
        gpu_memory_bytes=state.gpu_memory_bytes,
        notes=(state.note, *((APPROXIMATE,) if approximate else ()), *((HAZARD,) if hazard else ())),
    )


def _by_set(sets: Mapping[tuple[int, float | None], float]) -> tuple[dict[int, float], dict[int, tuple[float | None, float | None]]]:
    """Each set once: its chance, and the least speed of its divisions between containers with the most where that is more."""
    chances: dict[int, float] = {}
    speeds: dict[int, list[float]] = {}
    for (mask, speed), chance in sets.items():
        chances[mask] = chances.get(mask, 0.0) + chance
        speeds.setdefault(mask, []).extend([] if speed is None else [speed])
    return chances, {mask: (min(some, default=None), max(some) if len(some) > 1 else None) for mask, some in speeds.items()}


def _worst_rank(demand: Demand, state: NodeState, table: PlacementTable) -> int | None:
    """Only where the pod says which link it prefers: nobody else reads it."""
    if demand.wishes.preferred_link is None:
        return None
    predictions = (table.predictor.predict(free, demand.asks, state.kubelet) for free, _ in state.beliefs)
    masks = {mask for prediction in predictions for outcome in prediction.outcomes for mask in outcome.group_masks}
    return max((worst for mask in masks if (worst := links.worst(table, mask)) is not None), default=None)


def _marginals(sets: Mapping[tuple[int, float | None], float], size: int, total: float) -> tuple[float, ...]:
    chances = [0.0] * size
    for (mask, _), chance in sets.items():
        for position in positions_of(mask):
            chances[position] += chance
    return tuple(round(chance / total, 9) for chance in chances)


def _slowest(table: PlacementTable, outcome: Outcome) -> float | None:
    """The pod's bandwidth: that of its slowest container of two or more GPUs; None if there is none."""
    speeds = [table.busbw_gbps(mask) for mask in outcome.group_masks]
    known = [speed for speed in speeds if speed is not None]
    return min(known) if known else None


def _least_effective(table: PlacementTable, outcome: Outcome, messages: str) -> float | None:
    """The same over the messages the pod cares about."""
    speeds = [table.effective_gbps(mask, messages) for mask in outcome.group_masks]
    return min((speed for speed in speeds if speed is not None), default=None)


def _extremes(demand: Demand, table: PlacementTable, free: int) -> list[float]:
    """Best and worst bandwidth that one container's set could have here; for several containers see the prospects."""
    if len(demand.groups) != 1:
        return []
    found = table.extremes(free, demand.groups[0])
    return [place.busbw_gbps for place in found or () if place.busbw_gbps is not None]
