"""The remedy that evicts pods: which one or two pods make room, and what their eviction disrupts.

Whether the eviction API allows it, who recreates the pods and which groups restart with them is looked up for the pods of the best
options alone (`Case.look_up`), and judged as for `fabricwise defrag` (`extender.decision.disruption`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from extender.decision.disruption.disruption_facts import ON_ITS_NODE, DisruptionFacts, returns_to_its_node, why_not_recreated
from extender.decision.disruption.evictions import (
    Disrupted,
    Evictee,
    WholeGroup,
    disrupted,
    evictee_of,
    restart_text,
    whole_groups,
    why_refused,
)
from extender.decision.request.pod_request import Demand
from extender.decision.why.helping.departures import key_of, verdict_after
from extender.decision.why.helping.remedy_case import EVICT, EVICT_FOR_GOOD, EVICT_MORE, LOOK, Case, Found, few, speed_text

NOT_CHECKED = "PodDisruptionBudgets and owners of the pods that a remedy would evict"

MOST_EVALUATIONS = 512
"""Sets of pods whose eviction is evaluated for one question."""
MOST_PAIRS = 128
"""Pairs of pods that are evaluated where the eviction of one pod is enough, in case that one should not be evicted."""
MOST_NODES = 64
"""Nodes on which evictions are tried, those with the most free GPUs first."""
MOST_PODS = 16
"""Pods of one node that are tried, those of the lowest priority first."""
MOST_OPTIONS = 16
"""Options of one pod, and of two pods, whose pods are looked up."""
_PRECIOUS = 2_000_000_000
"""Priority from which a pod is critical for its node or cluster (system-cluster-critical and above)."""


@dataclass(frozen=True, slots=True)
class Option:
    """One or two pods of a node whose eviction makes the pod fit there."""

    pods: tuple[Evictee, ...]
    node: str
    gbps: float | None
    """Bandwidth that the pod can expect then."""
    cause: str

    @property
    def rank(self) -> tuple[int, int, float, str, tuple[str, ...]]:
        """Sort key by what the state knows; the smaller is better."""
        names = tuple(pod.full_name for pod in self.pods)
        return max(pod.priority for pod in self.pods), sum(pod.gpus for pod in self.pods), -(self.gbps or 0.0), self.node, names

    @property
    def names(self) -> tuple[str, ...]:
        """namespace/name of its pods."""
        return tuple(pod.full_name for pod in self.pods)


def eviction_options(case: Case) -> tuple[Option, ...]:
    """Return the best options of one pod and of two: lowest priority first, then fewest GPUs, then most bandwidth.

    No pod of a higher priority, no critical pod, and no pod that its owner recreates on the same node.
    """
    demand, views = case.evaluated.demand, case.question.moment.snapshot.views
    if not isinstance(demand, Demand):
        return ()
    names = [name for name in case.refused_only_by(lambda refusal: refusal.resolvable) if name in views]
    names.sort(key=lambda name: (-views[name].state.free_count, name))
    evictees = {name: _evictees(case, name) for name in names[:MOST_NODES]}
    single = _options(case, demand, {name: [(pod,) for pod in pods] for name, pods in evictees.items()}, MOST_EVALUATIONS)
    if len(single) >= MOST_OPTIONS:
        return tuple(single[:MOST_OPTIONS])
    enough = {option.pods[0].key for option in single}
    others = {name: [pod for pod in pods if pod.key not in enough] for name, pods in evictees.items()}
    pairs = {name: list(combinations(pods, 2)) for name, pods in others.items()}
    tried = sum(map(len, evictees.values()))
    left = MOST_EVALUATIONS - tried
    return (*single, *_options(case, demand, pairs, min(left, MOST_PAIRS) if single else left)[:MOST_OPTIONS])


def _options(case: Case, demand: Demand, sets: Mapping[str, Sequence[tuple[Evictee, ...]]], most: int) -> list[Option]:
    """Return the options among these sets of pods, of which at most `most` are evaluated; the best first."""
    found: list[Option] = []
    for name, of_node in sets.items():
        for chosen in of_node:
            if most <= 0 or not case.pace():
                return sorted(found, key=lambda option: option.rank)
            most -= 1
            verdict = verdict_after(case, demand, name, frozenset(pod.key for pod in chosen))
            if verdict is not None:
                found.append(Option(chosen, name, verdict.evidence.expected_gbps, case.evaluated.refusals[name][0].reason))
    return sorted(found, key=lambda option: option.rank)


def _evictees(case: Case, name: str) -> list[Evictee]:
    """Return the pods of a node that may be evicted for the pod, those of the lowest priority first."""
    by_key = {pod.key: evictee_of(pod) for pod in case.question.moment.snapshot.views[name].pods if not pod.terminating}
    needs_gpus_alone = all(refusal.code is not None for refusal in case.evaluated.refusals[name])
    for pod in case.question.around.pods_on(name):
        key = key_of(pod)
        if any(owner.kind in ON_ITS_NODE for owner in pod.metadata.owner_references or ()):
            by_key.pop(key, None)
        elif not needs_gpus_alone and key not in by_key and pod.metadata.deletion_timestamp is None:
            by_key[key] = Evictee(key, pod.namespace, pod.metadata.name, pod.spec.priority or 0, 0)
    allowed = [each for each in by_key.values() if _may_be_evicted(case, each.priority)]
    return sorted(allowed, key=lambda each: (each.priority, each.gpus, each.full_name))[:MOST_PODS]


def _may_be_evicted(case: Case, priority: int) -> bool:
    return priority <= (case.question.pod.spec.priority or 0) and priority < _PRECIOUS


def looked_up(options: Sequence[Option]) -> tuple[Evictee, ...]:
    """Return the pods of all options, each once."""
    return tuple({pod.key: pod for option in options for pod in option.pods}.values())


@dataclass(frozen=True, slots=True)
class _Judged:
    """An option with what its eviction disrupts."""

    option: Option
    cost: int
    all_pods: Disrupted
    harms: tuple[str, ...]
    refused: str | None
    """Why the eviction API refuses it."""
    is_checked: bool
    """Whether owners and budgets of its pods are known."""

    @property
    def rank(self) -> tuple[int, int, int, int, float, str, tuple[str, ...]]:
        """Sort key: the least harm, then the lowest priority, then the fewest GPUs and pods that are disrupted, then the bandwidth."""
        option = self.option
        return self.cost, self.all_pods.priority, self.all_pods.gpus, self.all_pods.pods, -(option.gbps or 0.0), option.node, option.names


def evicted(case: Case) -> Iterator[Found]:
    """The option that harms least. Those that the eviction API refuses are left out, and a second remedy says so where one is better."""
    options = eviction_options(case)
    if not options:
        return
    facts = case.look_up(looked_up(options))
    groups = whole_groups(facts, case.question.moment.snapshot.pods)
    judged = sorted((each for option in options if (each := _judged(case, option, facts, groups)) is not None), key=lambda each: each.rank)
    allowed = [each for each in judged if each.refused is None]
    refused = [each for each in judged if each.refused is not None and (not allowed or each.rank < allowed[0].rank)]
    if allowed:
        yield replace(_found(allowed[0]), unread=facts.unread, not_checked=() if allowed[0].is_checked else (NOT_CHECKED,))
    if refused:
        yield replace(_refused(refused), unread=facts.unread)


def _judged(case: Case, option: Option, facts: DisruptionFacts, groups: Mapping[str, WholeGroup]) -> _Judged | None:
    """Return what an option disrupts; None where it frees nothing, or restarts a pod that may not be evicted for this one."""
    known = [facts.pods[pod.key] for pod in option.pods if pod.key in facts.pods]
    all_pods = disrupted(option.pods, groups)
    if any(map(returns_to_its_node, known)) or not _may_be_evicted(case, all_pods.priority):
        return None
    lost, more = list[str](), [restart_text(group.restart) for group in all_pods.groups]
    for each in known:
        reason = why_not_recreated(each)
        of_pod = "" if len(option.pods) == 1 else f"{each.pod.metadata.namespace or 'default'}/{each.pod.metadata.name}: "
        if reason is not None:
            lost.append(f"{of_pod}{reason}")
        if each.pod.group is not None:
            more.append(f"{of_pod}it is in PodGroup {each.pod.group}, whose pods are scheduled together")
    refused = why_refused(known, facts.budgets)
    cost = EVICT_FOR_GOOD if lost else EVICT_MORE if more or len(option.pods) > 1 else EVICT
    is_checked = facts.are_budgets_known and len(known) == len(option.pods)
    return _Judged(option, cost, all_pods, (*lost, *more), refused[1] if refused is not None else None, is_checked)


def _found(judged: _Judged) -> Found:
    option = judged.option
    but = f"; but {'; '.join(judged.harms)}" if judged.harms else ""
    text = f"evict {' and '.join(option.names)}; then it fits on {option.node}{speed_text(option.gbps)}{but}"
    restarts = tuple(group.restart for group in judged.all_pods.groups)
    found = Found("evict", judged.cost, option.cause, text, True, 1, option.node, option.gbps, evict=option.names)
    return replace(found, harms=judged.harms, restarts=restarts)


def _refused(refused: Sequence[_Judged]) -> Found:
    """Return what says that the eviction API refuses options that would be better than all others."""
    best = refused[0].option
    names = list(dict.fromkeys(" and ".join(each.option.names) for each in refused))
    reasons = list(dict.fromkeys(each.refused or "" for each in refused))
    text = f"evicting {few(names)} would make it fit, but the API server refuses that now: {few(reasons)}"
    return Found("look", LOOK, best.cause, text, node=best.node)
