"""Demand and node state -> verdict, with a cache of verdicts.

A verdict depends on the demand, the node state, the policy and the mix of sizes only, so it is cached per demand and state: five thousand
nodes in forty distinct states cost forty evaluations the first time and five thousand dictionary accesses after that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.evidence import evidence_of
from extender.decision.evaluate.filters import refuse
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy, learnt_mix
from extender.decision.evaluate.telemetry_filters import refuse_by_telemetry
from extender.decision.evaluate.verdict import Evidence, Verdict, verdict_of
from extender.decision.node.claims_on_node import all_on_view, is_same_on_every_node, on_view
from extender.decision.node.devices.device_load import NO_TELEMETRY
from extender.decision.node.devices.pressure import pressure
from extender.decision.node.interned_states import with_extra_pods
from extender.decision.node.node_state import NodeState, NodeView
from extender.decision.node.steered_kubelet import as_decided
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.state.isolation import described, view_key
from extender.decision.state.pods import NO_EXTRA_PODS, ExtraPods
from extender.decision.state.snapshot import Snapshot
from topology.devices.prediction import DevicePlugin
from topology.devices.size_mix import SizeMix, of_known_sizes
from topology.placement.set_table import DEFAULT_SIZE_MIX

STALE_TELEMETRY = "telemetry of some GPUs is stale and counts as unknown"

_MOST_DEMANDS = 32
_PREPARED_DEMANDS = 8
_SPARE_STATES = 1_000
_MOST_VERDICTS = 50_000
"""Cached verdicts over all demands; each takes about 2 KB."""

UNKNOWN_NODE = verdict_of(Rejection(Reason.UNKNOWN_NODE, "no Node of that name has been seen on the watch"), Evidence())


Failed = Callable[[Demand, NodeState, Exception], None]
"""Called with the demand, the node state and the error of an evaluation that raised."""


@dataclass(slots=True)
class _CachedVerdicts:
    """The verdicts for one demand, all computed with the same mix of sizes."""

    mix: Mapping[int, float]
    verdicts: dict[NodeState, Verdict] = field(default_factory=dict)
    without_telemetry: dict[NodeState, Verdict] = field(default_factory=dict)
    """The verdicts before the telemetry filters, by node state without telemetry."""


class Evaluator:
    """Evaluates node states and caches the verdicts. It holds no cluster state: an emptied cache changes no verdict.

    With a lock it can be called from several threads. The lock guards the set of cached demands; it is taken once per call and demand, not
    per node. The verdicts of one demand are in a plain dictionary that only grows and is replaced as a whole, so a thread that still reads
    a replaced dictionary reads correct verdicts.
    """

    def __init__(self, policy: Policy, lock: AbstractContextManager[object] | None = None, failed: Failed | None = None) -> None:
        """Learn the mix of sizes if `policy` has none, see `prepare`. Without a lock, only one thread may use the evaluator."""
        self._policy, self._learns, self._lock, self._failed = policy, policy.size_mix is None, lock or nullcontext(), failed
        self._mix: Mapping[int, float] = policy.size_mix or DEFAULT_SIZE_MIX
        self._decided_mix: SizeMix | None = None
        self._records, self._has_steered = False, False
        """Whether decisions are recorded; whether a state has been evaluated in which a steerer chooses."""
        self._learnt: Mapping[int, float] | None = None
        """The mix in use since the cluster is listed in full."""
        self._cache: OrderedDict[Demand, _CachedVerdicts] = OrderedDict(
            (Demand(((size, False),), size), _CachedVerdicts(self._mix))
            for size in self._mix  # the most common first requests
        )
        """In the order of last use, the latest last."""
        self._broken: list[tuple[_CachedVerdicts, NodeState]] = []
        """Evaluations that raised. They are dropped with the next change of state, so that each is repeated then, but not in every call."""

    @property
    def size_mix(self) -> Mapping[int, float]:
        """The mix of sizes that fragmentation is currently computed with: GPUs per container -> weight."""
        return self._mix

    @property
    def decided_mix(self) -> SizeMix | None:
        """The mix that a decision records for the steerer of its node; None where decisions are not recorded."""
        return self._decided_mix

    def record_decisions(self) -> None:
        """From now on, predict for pods with a recorded decision: a steerer then chooses for the mix of sizes that is recorded.

        The bind verb records decisions. Where kube-scheduler binds instead, a steerer knows no mix but its own.
        """
        if self._records:
            return
        with self._lock:
            self._records, self._decided_mix = True, of_known_sizes(self._mix)
            if self._has_steered:  # read after the mix is set: an evaluation sets it before it reads the mix
                self._use(dict(self._mix))

    def _use(self, mix: Mapping[int, float]) -> None:
        """Use a mix, and drop all cached verdicts. The caller holds the lock."""
        self._mix, self._decided_mix = mix, of_known_sizes(mix) if self._records else None
        for demand in self._cache:
            self._cache[demand] = _CachedVerdicts(mix)

    def _note_steerer(self, state: NodeState) -> None:
        if state.kubelet.device_plugin is DevicePlugin.STEERED:
            self._has_steered = True

    def remembered(self, demand: Demand) -> dict[NodeState, Verdict]:
        """The verdicts cached for one demand; `evaluate` adds to it."""
        return self._cached(demand).verdicts

    def _cached(self, demand: Demand) -> _CachedVerdicts:
        with self._lock:
            cached = self._cache.get(demand)
            if cached is None:
                while len(self._cache) >= _MOST_DEMANDS:
                    self._cache.popitem(last=False)
                cached = self._cache[demand] = _CachedVerdicts(self._mix)
            else:
                self._cache.move_to_end(demand)
            return cached

    def learn(self, snapshot: Snapshot) -> bool:
        """Use the mix of sizes that the cluster's pods request, unless the policy has one. Return whether the mix changed.

        If it did, all cached verdicts are dropped. Once the cluster is listed in full, a mix stays while it is near the pods' requests.
        """
        mix = learnt_mix(snapshot.sizes, self._learnt) if self._learns else self._mix
        if snapshot.synced:
            self._learnt = mix
        if mix == self._mix:
            return False
        with self._lock:
            self._use(mix)
        return True

    def prepare(self, states: Iterable[NodeState], snapshot: Snapshot) -> None:
        """Evaluate new states for the latest demands, before a scheduling cycle needs them, and drop verdicts of states no longer used.

        Verdicts of states that no node is in are kept until they outnumber the nodes, because a node often returns to an earlier state.
        When the sizes that pods request have changed, all states are evaluated again with the new mix of sizes.
        """
        views = snapshot.views.values()
        if self.learn(snapshot):
            states = {view.state for view in views}
        with self._lock:
            self._forget(views)
        self.evaluate_for_latest(states)

    def evaluate_for_latest(self, states: Iterable[NodeState]) -> None:
        """Evaluate states for the latest demands, before a verb needs the verdicts."""
        with self._lock:
            latest = list(self._cache.items())[-_PREPARED_DEMANDS:]
        for state in states:
            for demand, cached in latest:
                self._evaluated(demand, state, cached)

    def _forget(self, views: Collection[NodeView]) -> None:
        """Drop verdicts that are not needed. The caller holds the lock."""
        for cached, state in self._broken:
            cached.verdicts.pop(state, None)
        self._broken = []
        for demand, cached in self._cache.items():
            if len(cached.verdicts) > 2 * len(views) + _SPARE_STATES:
                used_states = {state for view in views for state in (view.state, view.state.without_telemetry) if state is not None}
                self._cache[demand] = _CachedVerdicts(
                    cached.mix, _kept(cached.verdicts, used_states), _kept(cached.without_telemetry, used_states)
                )
                break  # one demand per change of state, so that a verb does not wait long for the lock
        while len(self._cache) > 1 and sum(len(cached.verdicts) for cached in self._cache.values()) > _MOST_VERDICTS:
            self._cache.popitem(last=False)

    def for_demand(self, demand: Demand) -> Callable[[NodeView], Verdict]:
        """Return a function that gives the verdict for the view of a node.

        A demand that means something else on every node (`claims_on_node`) has a verdict of its own there, which is not cached.
        """
        if not is_same_on_every_node(demand):
            return partial(self._of_own_devices, demand)
        cached, evaluate = self.remembered(demand), self.evaluate
        return lambda view: cached.get(view.state) or evaluate(demand, view.state)

    def _of_own_devices(self, demand: Demand, view: NodeView) -> Verdict:
        self._note_steerer(view.state)
        try:
            return evaluate(on_view(demand, view), view.state, self._mix, self._policy, self._decided_mix)
        except Exception as error:  # see `_evaluated`
            return self.broken(demand, view.state, error)

    def evaluate(self, demand: Demand, state: NodeState) -> Verdict:
        """The verdict for one node state, from the cache if it is there. An evaluation that raises gives a refusal, see `broken`."""
        return self._evaluated(demand, state, self._cached(demand))

    def _evaluated(self, demand: Demand, state: NodeState, cached: _CachedVerdicts) -> Verdict:
        """Evaluate links once for all states that differ by telemetry only; then apply the telemetry of this state."""
        verdict = cached.verdicts.get(state)
        if verdict is None:
            self._note_steerer(state)
            try:
                state_without_telemetry = state.without_telemetry or state
                base_verdict = cached.without_telemetry.get(state_without_telemetry)
                if base_verdict is None:
                    base_verdict = evaluate_without_telemetry(demand, state_without_telemetry, cached.mix, self._policy, self._decided_mix)
                    cached.without_telemetry[state_without_telemetry] = base_verdict
                verdict = with_telemetry(demand, state, base_verdict, self._policy)
            except Exception as error:  # an error about this state must not change the answer about other nodes
                verdict = self.broken(demand, state, error)
                with self._lock:
                    self._broken.append((cached, state))
            cached.verdicts[state] = verdict
        return verdict

    def broken(self, demand: Demand, state: NodeState, error: Exception) -> Verdict:
        """The verdict for a node whose evaluation raised: an unresolvable refusal, because the effect of a preemption is unknown too."""
        if self._failed is not None:
            self._failed(demand, state, error)
        return verdict_of(Rejection(Reason.NOT_EVALUATED, described(error)), Evidence(notes=(state.note,)))


def _kept(verdicts: dict[NodeState, Verdict], states: Collection[NodeState]) -> dict[NodeState, Verdict]:
    return {state: verdict for state in states if (verdict := verdicts.get(state)) is not None}


def evaluate_nodes(
    evaluator: Evaluator, snapshot: Snapshot, demand: Demand | Rejection, names: Sequence[str], extra_pods: ExtraPods = NO_EXTRA_PODS
) -> NodeVerdicts:
    """Return one verdict per name, in the order of `names`. A demand that is itself a rejection rejects every node.

    `extra_pods`: node -> demands of pods that count as being on it although the snapshot does not show them there.
    """
    if isinstance(demand, Rejection):
        return NodeVerdicts.of([verdict_of(demand, Evidence())] * len(names))
    views, of_view = snapshot.views, evaluator.for_demand(demand)
    verdicts: list[Verdict] = []
    for name in names:
        view = views.get(name)
        verdicts.append(without_view(snapshot, name) if view is None else of_view(view))
    for index, name in enumerate(names) if extra_pods else ():
        if name in extra_pods and name in views:
            view = views[name]
            others = all_on_view(extra_pods[name], view)
            verdicts[index] = evaluate_with_extra_pods(evaluator, on_view(demand, view), view.state, others)
    return NodeVerdicts.of(verdicts)


def evaluate_with_extra_pods(
    evaluator: Evaluator, demand: Demand, state: NodeState, extra_pods: tuple[Demand, ...], known: Mapping[NodeState, Verdict] | None = None
) -> Verdict:
    """Return the verdict for a node state with further pods on it that the snapshot does not show there.

    `known`: the verdicts of `Evaluator.remembered`, where the caller has them.
    """
    try:
        state_with_pods = with_extra_pods(state, extra_pods, evaluator.decided_mix)
    except Exception as error:  # see `Evaluator._evaluated`
        return evaluator.broken(demand, state, error)
    return (known.get(state_with_pods) if known else None) or evaluator.evaluate(demand, state_with_pods)


def without_view(snapshot: Snapshot, name: str) -> Verdict:
    """Return the verdict for a node that is unknown, or whose state could not be derived."""
    failure = snapshot.set_aside.get(view_key(name))
    return UNKNOWN_NODE if failure is None else verdict_of(Rejection(Reason.NOT_EVALUATED, failure.why), Evidence())


def evaluate(
    demand: Demand, state: NodeState, mix: Mapping[int, float], policy: Policy = DEFAULT_POLICY, decided_mix: SizeMix | None = None
) -> Verdict:
    """Return the verdict for one node state. `mix`: GPUs per container -> weight of that size among later pods. `decided_mix`: the same as
    the decision records it for a steerer; None where none is recorded.
    """
    return with_telemetry(demand, state, evaluate_without_telemetry(demand, state, mix, policy, decided_mix), policy)


def with_telemetry(demand: Demand, state: NodeState, base_verdict: Verdict, policy: Policy) -> Verdict:
    """Return the verdict after telemetry is applied to `base_verdict`, the verdict without it."""
    evidence, device_telemetry = base_verdict.evidence, state.device_telemetry
    if not base_verdict.feasible or not (demand.total or demand.slices):
        return base_verdict
    rejection = refuse_by_telemetry(demand, state, evidence.marginals, policy)
    if device_telemetry is NO_TELEMETRY and rejection is None:
        return base_verdict
    if device_telemetry.stale:
        evidence = replace(evidence, notes=(*evidence.notes, STALE_TELEMETRY))
    if rejection is not None:
        return verdict_of(rejection, Evidence(gpu_memory_bytes=evidence.gpu_memory_bytes, notes=evidence.notes))
    if state.table is None:
        return verdict_of(None, evidence)
    return verdict_of(None, replace(evidence, pressure=pressure(state.load_by_gpu, evidence.marginals, policy.neutral_pressure)))


def evaluate_without_telemetry(
    demand: Demand, state: NodeState, mix: Mapping[int, float], policy: Policy = DEFAULT_POLICY, decided_mix: SizeMix | None = None
) -> Verdict:
    """Return the verdict for a node state as if there were no telemetry. `decided_mix`: as for `evaluate`."""
    state = as_decided(state, demand, decided_mix)
    rejection = refuse(demand, state, policy)
    unjudged = state.unjudged if demand.requests is None and demand.total else None
    notes = (state.note, *(note for note in (unjudged, demand.unranked) if note is not None))
    if rejection is not None:
        return verdict_of(rejection, Evidence(gpu_memory_bytes=state.gpu_memory_bytes, notes=notes))
    if state.table is None or not demand.total or unjudged is not None:
        return verdict_of(None, Evidence(gpu_memory_bytes=state.gpu_memory_bytes, notes=notes))
    messages = demand.wishes.messages or policy.messages
    return verdict_of(None, evidence_of(demand, state, state.table, tuple(mix.items()), messages))
