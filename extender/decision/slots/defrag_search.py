"""The fewest and cheapest moves that regain the most slots of one size: a greedy search with bounds.

In each round the step of the lowest cost per regained slot is taken. A step is one pod, or two pods of one node; its cost counts all pods
that it disrupts, so the whole group of a pod whose group restarts with it. Candidates are tried in the order of what they could gain at
best, until no further one can be better than the best found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from extender.decision.disruption.disruption_facts import DisruptionFacts
from extender.decision.disruption.evictions import WholeGroup, budgets_of, disrupted, evictee_of, whole_groups, why_refused
from extender.decision.evaluate.policy import Policy
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.node_state import NodeState
from extender.decision.pace import Pace, unhurried
from extender.decision.request.pod_request import Demand
from extender.decision.slots.defrag_answer import DefragAnswer, LeftOut, Move, Step, summary
from extender.decision.slots.lost_slots import NO_SLOTS
from extender.decision.slots.movable_pods import OTHER_SCHEDULER, why_not_moved
from extender.decision.slots.node_idleness import NodeIdleness
from extender.decision.slots.pod_moves import Arrangement, PlacedPod, PodMover, recreated
from extender.decision.slots.slot_question import SlotQuestion
from extender.decision.slots.slot_summary import NOT_CHECKED, SlotCounts
from extender.decision.state.pods import NO_EXTRA_PODS, ExtraPods
from extender.decision.state.snapshot import Snapshot

DEFAULT_MOVES = 5
MOST_MOVES = 50
"""Moves in one answer."""

MOST_TRIED = 100
"""Candidates in one round whose effect is computed in full."""

MOST_CONSIDERED = 100
"""Pods whose manifests are read for one answer, where each must be read on its own."""

MOST_EXAMPLES = 3

MOST_PODS_PAIRED = 16
"""Pods of one node of which pairs are made."""

MOST_REASONS = 50

NO_GAIN = "the GPUs that it would free do not make a slot"
NOWHERE = "no other node takes it"
NO_NET_GAIN = "where it would go it takes away as many slots"
_NO_GROUPS: Mapping[str, WholeGroup] = {}
NO_PODS_KNOWN = "CPU and memory that other pods hold on the node that a moved pod goes to"

Cost = tuple[int, float, float, str, tuple[str, ...]]
"""(highest priority, GPUs and pods disrupted per regained slot, node, keys of the pods); the smaller is better.

The priority counts first, as in the costs of a preemption.
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Pods of one node that could leave it together."""

    pods: tuple[BoundPod, ...]
    most_gain: int
    """Slots that the node gains if only the number of its idle GPUs counts."""
    gpus: int
    """GPUs of all pods that it disrupts."""
    disrupted: int
    """Pods that it disrupts."""
    priority: int
    """The highest priority of those."""

    @property
    def node(self) -> str:
        """The node that the pods leave."""
        return self.pods[0].node

    def cost(self, gain: int) -> Cost:
        """Return the cost if the move regains that many slots."""
        return self.priority, self.gpus / gain, self.disrupted / gain, self.node, tuple(pod.key for pod in self.pods)


def _candidate(pods: tuple[BoundPod, ...], most_gain: int, groups: Mapping[str, WholeGroup]) -> Candidate:
    if not any(pod.key in groups for pod in pods):  # the usual case, which a search meets many thousand times
        return Candidate(pods, most_gain, sum(pod.demand.total for pod in pods), len(pods), max(pod.priority for pod in pods))
    all_pods = disrupted([evictee_of(pod) for pod in pods], groups)
    return Candidate(pods, most_gain, all_pods.gpus, all_pods.pods, all_pods.priority)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A candidate that was tried and regains slots."""

    candidate: Candidate
    gain: int
    placed: tuple[PlacedPod, ...]
    after: Arrangement


def considered(snapshot: Snapshot, size: int, resource: str, policy: Policy, pace: Pace = unhurried) -> tuple[BoundPod, ...]:
    """Return the pods whose moves could regain the most slots, at most `MOST_CONSIDERED`; the caller reads the facts about them."""
    slots = _Slots(snapshot, size, resource, policy)
    slots.count_all(pace)
    pods: dict[str, BoundPod] = {}
    candidates = _candidates(snapshot, slots, size, lambda pod: not pod.terminating, _NO_GROUPS)
    for candidate in sorted(candidates, key=lambda each: each.cost(each.most_gain)):
        pods |= {pod.key: pod for pod in candidate.pods}
        if len(pods) >= MOST_CONSIDERED:
            break
    return tuple(pods.values())[:MOST_CONSIDERED]


class _Slots:
    """The slots of every node, in one arrangement after another."""

    def __init__(self, snapshot: Snapshot, size: int, resource: str, policy: Policy, extra_pods: ExtraPods = NO_EXTRA_PODS) -> None:
        self._size, self._snapshot = size, snapshot
        self._counts = SlotCounts(snapshot, SlotQuestion((size,)), resource, policy, extra_pods)
        self.by_node: dict[str, tuple[NodeIdleness, int]] = {}
        """Node -> its GPUs and slots; a node that is none for such pods is absent."""

    def count_all(self, pace: Pace) -> bool:
        """Count every node. Return whether the time was long enough."""
        for number, name in enumerate(sorted(self._snapshot.views)):
            if number % 8 == 0 and not pace():
                return False
            found = self.of(name, self._snapshot)
            if found is not None:
                self.by_node[name] = found
        return True

    def of(self, node: str, snapshot: Snapshot) -> tuple[NodeIdleness, int] | None:
        """Return the GPUs and slots of a node in a snapshot."""
        found = self._counts.of(node, snapshot)
        return None if found is None or isinstance(found, str) else (found[0], found[1].get(self._size, NO_SLOTS).now)

    def gain(self, nodes: set[str], after: Snapshot) -> int:
        """Return how many slots these nodes gain until `after`."""
        known = [node for node in nodes if node in self.by_node]
        return sum(found[1] - self.by_node[node][1] for node in known if (found := self.of(node, after)) is not None)

    @property
    def total(self) -> int:
        """The slots of all nodes."""
        return sum(now for _, now in self.by_node.values())

    def take_over(self, nodes: set[str], after: Snapshot) -> None:
        """Use the state `after` for these nodes."""
        self.by_node |= {node: found for node in nodes if (found := self.of(node, after)) is not None}


def _candidates(
    snapshot: Snapshot, slots: _Slots, size: int, may_move: Callable[[BoundPod], bool], groups: Mapping[str, WholeGroup]
) -> Iterator[Candidate]:
    """Yield the pods, and the pairs of pods of one node, without which a node could have more slots, by the number of its idle GPUs.

    `groups`: key of a pod -> the group that restarts with it.
    """
    for node, (idleness, now) in slots.by_node.items():
        if not idleness.is_schedulable:
            continue
        pods = [pod for pod in snapshot.views[node].pods if pod.demand.total and may_move(pod)]
        alone = {pod.key: _most_gain(idleness, now, size, (pod,)) for pod in pods}
        yield from (_candidate((pod,), alone[pod.key], groups) for pod in pods if alone[pod.key] > 0)
        for pair in combinations(pods[:MOST_PODS_PAIRED], 2):
            gain = _most_gain(idleness, now, size, pair)
            if gain > max(alone[pod.key] for pod in pair):
                yield _candidate(pair, gain, groups)


def _most_gain(idleness: NodeIdleness, now: int, size: int, pods: tuple[BoundPod, ...]) -> int:
    return (idleness.idle + sum(pod.demand.total for pod in pods)) // size - now


_Shape = tuple[NodeState, tuple[tuple[Demand, str], ...]]
"""What candidates of one round have in common that fail for the same reason: the node's state, and demand and owner of each pod."""


class DefragSearch:
    """The search for one answer."""

    def __init__(
        self, snapshot: Snapshot, size: int, facts: DisruptionFacts, mover: PodMover, policy: Policy, extra_pods: ExtraPods = NO_EXTRA_PODS
    ) -> None:
        """`extra_pods`: node -> pods that are decided for it and not visible there yet."""
        self._size, self._facts, self._mover = size, facts, mover
        self._now = Arrangement(snapshot, facts.pods_by_node)
        self._groups = whole_groups(facts, snapshot.pods)
        self._slots = _Slots(snapshot, size, mover.context.resource, policy, extra_pods)
        self._used: Counter[str] = Counter()
        """Full name of a budget -> moves that it covers so far."""
        self._left: set[str] = set()
        """Nodes that pods have left: they are cordoned until all moves are done."""
        self._left_out: dict[str, tuple[BoundPod, str]] = {}
        self._moved: set[str] = set()
        """Keys of the pods that were moved, before and after."""
        self._is_complete = True

    def advise(self, most_moves: int = DEFAULT_MOVES, pace: Pace = unhurried) -> DefragAnswer:
        """Return the moves, at most `most_moves`."""
        self._is_complete = self._slots.count_all(pace)
        before, steps = self._slots.total, list[Step]()
        left = most_moves
        while left > 0 and (best := self._best(left, pace)) is not None:
            steps.append(self._take(best))
            left -= len(best.candidate.pods)
        return DefragAnswer(
            summary=summary(self._size, before, tuple(steps)),
            size=self._size,
            slots_now=before,
            slots_after=self._slots.total,
            steps=tuple(steps),
            left_out=self._reasons(),
            not_checked=(*NOT_CHECKED, *(() if self._facts.pods_by_node is not None else (NO_PODS_KNOWN,))),
            complete=self._is_complete,
            unread=self._facts.unread,
        )

    def _best(self, most_pods: int, pace: Pace) -> _Outcome | None:
        """Return the best step from the present arrangement; None where there is none."""
        best: _Outcome | None = None
        candidates = _candidates(self._now.snapshot, self._slots, self._size, self._may_move, self._groups)
        failed: dict[_Shape, str] = {}
        tried = 0
        for candidate in sorted(candidates, key=lambda each: each.cost(each.most_gain)):
            if best is not None and candidate.cost(candidate.most_gain) >= best.candidate.cost(best.gain):
                break
            if len(candidate.pods) > most_pods or not self._is_within_budgets(candidate):
                continue
            shape = self._shape(candidate)
            if shape not in failed:
                if tried >= MOST_TRIED or not pace():
                    self._is_complete = False
                    break
                tried += 1
                outcome = self._tried(candidate)
                if isinstance(outcome, _Outcome):
                    is_better = best is None or candidate.cost(outcome.gain) < best.candidate.cost(best.gain)
                    best = outcome if is_better else best
                    continue
                failed[shape] = outcome
            self._leave_out(candidate, failed[shape])
        return best

    def _may_move(self, pod: BoundPod) -> bool:
        """Return whether a pod may be moved; where not, its reason is kept if its node could gain by it."""
        if pod.key in self._moved or pod.key not in self._now.snapshot.pods:
            return False
        reason = why_not_moved(pod, self._facts)
        if reason is None and self._mover.is_foreign(pod.scheduler):
            reason = OTHER_SCHEDULER
        if reason is None:
            return True
        idleness, now = self._slots.by_node[pod.node]
        if _most_gain(idleness, now, self._size, (pod,)) > 0:
            self._left_out.setdefault(pod.key, (pod, reason))
        return False

    def _is_within_budgets(self, candidate: Candidate) -> bool:
        """Return whether the budgets allow these pods besides those of the steps before."""
        refused = why_refused([self._facts.pods[pod.key] for pod in candidate.pods], self._facts.budgets, self._used)
        if refused is None:
            return True
        pod = next(pod for pod in candidate.pods if pod.key == refused[0].key)
        self._left_out.setdefault(pod.key, (pod, refused[1]))
        return False

    def _shape(self, candidate: Candidate) -> _Shape:
        owners = [self._facts.pods[pod.key].owner for pod in candidate.pods]
        pods = zip(candidate.pods, owners, strict=True)
        return self._now.snapshot.views[candidate.node].state, tuple((pod.demand, owner.uid if owner else "") for pod, owner in pods)

    def _tried(self, candidate: Candidate) -> _Outcome | str:
        """Return the outcome of moving these pods; a str states why it regains nothing."""
        arrangement = self._mover.without(self._now, candidate.pods)
        if self._slots.gain({candidate.node}, arrangement.snapshot) <= 0:
            return NO_GAIN
        placed: list[PlacedPod] = []
        for pod in sorted(candidate.pods, key=lambda each: -each.demand.total):
            place = self._mover.placed(arrangement, recreated(self._facts.pods[pod.key]), {*self._left, candidate.node})
            if place is None:
                return NOWHERE
            placed.append(place)
            arrangement = self._mover.with_pod(arrangement, place)
        gain = self._slots.gain({candidate.node, *(each.node for each in placed)}, arrangement.snapshot)
        return _Outcome(candidate, gain, tuple(placed), arrangement) if gain > 0 else NO_NET_GAIN

    def _leave_out(self, candidate: Candidate, reason: str) -> None:
        if len(candidate.pods) == 1:
            self._left_out.setdefault(candidate.pods[0].key, (candidate.pods[0], reason))

    def _take(self, outcome: _Outcome) -> Step:
        """Go on from the arrangement after the step."""
        candidate = outcome.candidate
        self._now = outcome.after
        self._slots.take_over({candidate.node, *(each.node for each in outcome.placed)}, outcome.after.snapshot)
        self._left.add(candidate.node)
        by_name = {f"{pod.namespace}/{pod.name}": pod for pod in candidate.pods}
        moves = []
        for placed in outcome.placed:
            meta, owner = placed.facts.pod.metadata, placed.facts.owner
            pod = by_name[f"{meta.namespace or 'default'}/{meta.name}"]
            budget = next(iter(budgets_of(placed.facts.pod, self._facts.budgets)), None)
            self._used[budget.full_name if budget else ""] += 1
            self._moved |= {pod.key, placed.facts.pod.key}
            moves.append(
                Move(
                    namespace=pod.namespace,
                    name=pod.name,
                    owner=f"{owner.kind}/{owner.name}" if owner else "",
                    from_node=candidate.node,
                    to_node=placed.node,
                    gpus=pod.demand.total,
                    priority=pod.priority,
                    budget=budget.full_name if budget else None,
                    expected_gbps=placed.evidence.expected_gbps,
                    restarts=self._groups[pod.key].restart if pod.key in self._groups else None,
                )
            )
        return Step(outcome.gain, tuple(moves))

    def _reasons(self) -> tuple[LeftOut, ...]:
        by_reason: dict[str, list[str]] = {}
        for pod, reason in self._left_out.values():
            if pod.key not in self._moved:
                by_reason.setdefault(reason, []).append(pod.full_name)
        most_first = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
        return tuple(LeftOut(reason, len(names), tuple(sorted(names)[:MOST_EXAMPLES])) for reason, names in most_first[:MOST_REASONS])
