"""The eviction of some pods: whether the eviction API refuses it, and the whole groups that restart with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from extender.decision.disruption.disruption_facts import Budget, DisruptionFacts, PodFacts
from extender.decision.disruption.restart_groups import RestartGroup, group_name, memberships, restart_group_of
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.pods import has_ended

SEVERAL_BUDGETS = "several disruption budgets cover it, which the eviction API refuses"


class Evictee(msgspec.Struct, frozen=True):
    """A pod that could be evicted."""

    key: str
    namespace: str
    name: str
    priority: int
    gpus: int

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


class GroupRestart(msgspec.Struct, frozen=True):
    """A group that restarts as a whole when one of its pods is evicted."""

    kind: str
    name: str
    """namespace/name, for people."""
    pods: int | None
    """Its pods that are bound, with the evicted one; None: not all of them could be read."""
    gpus: int | None
    """GPUs that they hold together; None as for `pods`."""
    unless: str | None
    """In which case it does not restart; None: it always does."""


def restart_text(restart: GroupRestart) -> str:
    """Return the sentence about a group, without its end."""
    size = f"{restart.pods} pods with {restart.gpus} GPUs" if restart.pods is not None else "how many pods that are is not known"
    unless = f", unless {restart.unless}" if restart.unless else ""
    return f"its {restart.kind} {restart.name} restarts as a whole ({size}){unless}"


def budgets_of(pod: Pod, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """Return the budgets that cover a pod."""
    return tuple(budget for budget in budgets if budget.covers(pod))


_NONE_USED: Mapping[str, int] = {}


def why_refused(pods: Iterable[PodFacts], budgets: tuple[Budget, ...], used: Mapping[str, int] = _NONE_USED) -> tuple[Pod, str] | None:
    """Return the first of these pods that the eviction API refuses to evict, and why; None where it evicts them all, one after another.

    `used`: full name of a budget -> evictions that it has covered before. Source: kubernetes 1.36
    `pkg/registry/core/pod/storage/eviction.go`, which looks at no budget of a pod that has not started (canIgnorePDB).
    """
    wanted = Counter(used)
    for facts in pods:
        if _is_unprotected(facts.pod):
            continue
        covering = budgets_of(facts.pod, budgets)
        if len(covering) > 1:
            return facts.pod, SEVERAL_BUDGETS
        for budget in covering:
            if budget.allows_unready and _is_unready(facts.pod):
                continue
            wanted[budget.full_name] += 1
            if not budget.allowed:
                return facts.pod, f"budget {budget.full_name} allows no disruption now"
            if wanted[budget.full_name] > budget.allowed:
                return facts.pod, f"budget {budget.full_name} allows no further disruption"
    return None


def _is_unprotected(pod: Pod) -> bool:
    """Return whether no budget protects the pod: it has not started, has ended or terminates. A phase that is not known protects."""
    phase = pod.status.phase if pod.status is not None else None
    return pod.metadata.deletion_timestamp is not None or phase in ("Pending", "Succeeded", "Failed")


def _is_unready(pod: Pod) -> bool:
    """Return whether a running pod is not ready; False where its status is not known."""
    status = pod.status
    if status is None or status.phase != "Running":
        return False
    return not any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())


@dataclass(frozen=True, slots=True)
class WholeGroup:
    """A group with the sums over its pods that are known."""

    group: RestartGroup
    name: str
    pods: int
    gpus: int
    priority: int
    """The highest one."""
    is_complete: bool
    """Whether all its pods are known."""

    @property
    def restart(self) -> GroupRestart:
        """As a part of an answer."""
        pods, gpus = (self.pods, self.gpus) if self.is_complete else (None, None)
        return GroupRestart(self.group.kind.kind, self.name, pods, gpus, self.group.kind.unless)


def whole_groups(facts: DisruptionFacts, bound: Mapping[str, BoundPod]) -> dict[str, WholeGroup]:
    """Return the key of each pod whose eviction restarts other pods -> its group. `bound`: the pods that hold GPUs, by key."""
    members: dict[RestartGroup, list[Pod]] = {}
    for each in facts.pods.values():
        if each.pod.spec.node_name and not has_ended(each.pod):
            for group in memberships(each.pod.metadata):
                members.setdefault(group, []).append(each.pod)
    found: dict[str, WholeGroup] = {}
    for group, pods in members.items():
        is_complete = group not in facts.unlisted_groups
        if len(pods) == 1 and is_complete:
            continue
        whole = WholeGroup(
            group,
            group_name(group, pods[0].metadata),
            len(pods),
            sum(bound[pod.key].demand.total for pod in pods if pod.key in bound),
            max(pod.spec.priority or 0 for pod in pods),
            is_complete,
        )
        found |= {pod.key: whole for pod in pods if restart_group_of(pod.metadata) == group}
    return found


@dataclass(frozen=True, slots=True)
class Disrupted:
    """All pods that an eviction disrupts: the evicted ones, and those of the groups that restart with them."""

    pods: int
    gpus: int
    priority: int
    """The highest one."""
    groups: tuple[WholeGroup, ...]


def evictee_of(pod: BoundPod) -> Evictee:
    """Return a pod that holds GPUs as one to evict."""
    return Evictee(pod.key, pod.namespace, pod.name, pod.priority, pod.demand.total)


def disrupted(evicted: Sequence[Evictee], groups: Mapping[str, WholeGroup]) -> Disrupted:
    """Return what the eviction of at least one pod disrupts; a group of several evicted pods counts once."""
    alone = [each for each in evicted if each.key not in groups]
    whole = tuple({groups[each.key].group: groups[each.key] for each in evicted if each.key in groups}.values())
    return Disrupted(
        len(alone) + sum(group.pods for group in whole),
        sum(each.gpus for each in alone) + sum(group.gpus for group in whole),
        max([*(each.priority for each in alone), *(group.priority for group in whole)]),
        whole,
    )
