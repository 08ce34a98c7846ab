"""A model of what an extender observes of kube-scheduler 1.36: queue, cache with assumed pods, sampling, asynchronous binding,
preemption and requeueing. Source: the facts of `pkg/scheduler` as described in the project's reference."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from extender.decision.cycle.preemption import Candidate
from extender.decision.cycle.scheduling_cycle import Evaluation
from extender.decision.request.kubernetes_objects import Pod
from extender.kube.objects.decode import seen
from tests.simulation.world import Event, SimPod, World

BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 10.0)


class Extender(Protocol):
    """The extender's verbs that the scheduler calls."""

    def filter(self, pod: Pod, names: list[str], now: float) -> Evaluation: ...
    def prioritize(self, pod: Pod, names: list[str], now: float) -> dict[str, int]: ...
    def preempt(self, pod: Pod, candidates: list[Candidate], now: float) -> list[Candidate]: ...


@dataclass
class Scheduler:
    """One kube-scheduler."""

    world: World
    extender: Extender
    dice: random.Random
    sample: float = 1.0
    """Share of the nodes with enough free GPUs by count that are passed to the extender."""
    cursor: int = 0
    cached: dict[str, SimPod] = field(default_factory=dict)
    """Bound pods that its watch has shown."""
    on_node: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    """Pods decided for a node, bound or not, in the order of the decisions."""
    active: deque[str] = field(default_factory=deque)
    backoff: dict[str, float] = field(default_factory=dict)
    unschedulable: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    in_flight: list[tuple[str, str]] = field(default_factory=list)
    nominated: dict[str, str] = field(default_factory=dict)
    on_rejected: Callable[[SimPod, list[str]], None] = lambda _pod, _names: None
    preemptions: int = 0

    def hear(self, event: Event) -> None:
        """Apply one event of its watch; an event that can make a pod schedulable requeues all pending pods."""
        self.cursor = event.version
        if event.kind == "GpuTopology":
            return
        if event.kind == "Node":
            self.requeue()
            return
        uid = str(event.uid)
        if event.deleted:
            self.cached.pop(uid, None)
            self.on_node.pop(uid, None)
            self._forget(uid)
            self.requeue()
        elif event.node:
            pod = self.world.pods.get(uid)
            if pod is not None:
                self.cached[uid] = pod
            self.on_node[uid] = event.node
            self.assumed.pop(uid, None)
            self._forget(uid, keep_assumed=True)
            self.requeue()
        elif uid in self.world.pods and self.world.pods[uid].scheduler == "gpu-scheduler" and not self._knows(uid):
            self.active.append(uid)

    def _knows(self, uid: str) -> bool:
        waiting = uid in self.active or uid in self.backoff or uid in self.unschedulable
        return waiting or uid in self.assumed or uid in self.on_node

    def _forget(self, uid: str, keep_assumed: bool = False) -> None:
        self.unschedulable.discard(uid)
        self.backoff.pop(uid, None)
        self.nominated.pop(uid, None)
        if uid in self.active:
            self.active.remove(uid)
        if not keep_assumed:
            self.assumed.pop(uid, None)

    def requeue(self, *uids: str) -> None:
        """Requeue all pending pods, after their backoff."""
        for uid in sorted(uids or self.unschedulable):
            if uid in self.unschedulable:
                self.unschedulable.discard(uid)
                self.backoff.setdefault(uid, 0.0)

    def ready(self, now: float) -> None:
        """Move pods whose backoff has ended to the front of the queue."""
        for uid in [uid for uid, until in self.backoff.items() if until <= now]:
            del self.backoff[uid]
            self.active.append(uid)

    def counted_free(self, node: str, pod: SimPod, but: frozenset[str] = frozenset()) -> int:
        """GPUs free by its own count: without those of bound and assumed pods, and of nominated pods of the same or higher priority."""
        taken = sum(p.gpus for uid, p in self.cached.items() if self.on_node.get(uid) == node and uid not in but)
        taken += sum(self.world.pods[uid].gpus for uid, at in self.assumed.items() if at == node and uid in self.world.pods)
        for uid, at in self.nominated.items():
            other = self.world.pods.get(uid)
            if at == node and uid != pod.uid and other is not None and other.priority >= pod.priority:
                taken += other.gpus
        return self.world.allocatable(node) - taken

    def cycle(self, now: float) -> None:
        """Schedule the next pod of the queue, if there is one."""
        if not self.active:
            return
        pod = self.world.pods.get(self.active.popleft())
        if pod is None or pod.node is not None:
            return
        self.attempts[pod.uid] = self.attempts.get(pod.uid, 0) + 1
        fits = [name for name in self.world.machines if self.counted_free(name, pod) >= pod.gpus]
        nominated = self.nominated.get(pod.uid)
        if nominated in fits:
            assert nominated is not None
            found = self.extender.filter(self._payload(pod), [nominated], now)
            if found.stall is None and found.verdicts[0].feasible:
                self._assume(pod, nominated)
                return
        if len(fits) > 1 and self.sample < 1:
            fits = sorted(self.dice.sample(fits, max(1, int(len(fits) * self.sample))))
        if not fits:
            self._fail(pod, {}, now)
            return
        found = self.extender.filter(self._payload(pod), fits, now)
        if found.stall is not None:
            self._error(pod, now)
            return
        feasible = [name for name, verdict in zip(fits, found.verdicts, strict=True) if verdict.feasible]
        if not feasible:
            self.on_rejected(pod, fits)
            resolvable = {name: verdict.resolvable for name, verdict in zip(fits, found.verdicts, strict=True)}
            self._fail(pod, resolvable, now)
            return
        if len(feasible) == 1:
            self._assume(pod, feasible[0])
            return
        scores = self.extender.prioritize(self._payload(pod), feasible, now)
        top = max(scores.values())
        assert sum(score == top for score in scores.values()) == 1, "the top must be one node's alone"
        self._assume(pod, max(scores, key=lambda name: scores[name]))

    def _payload(self, pod: SimPod) -> Pod:
        change = seen("Pod", pod.manifest())
        found: Pod = change.pod  # type: ignore[union-attr]
        return found

    def _assume(self, pod: SimPod, node: str) -> None:
        self.nominated.pop(pod.uid, None)
        self.assumed[pod.uid] = node
        self.in_flight.append((pod.uid, node))

    def _error(self, pod: SimPod, now: float) -> None:
        """Retry a cycle that ended with an error after a delay; the pod loses its nomination."""
        self._drop_nomination(pod)
        self.backoff[pod.uid] = now + BACKOFF_SECONDS[min(self.attempts[pod.uid], 5) - 1]

    def _drop_nomination(self, pod: SimPod) -> None:
        """Also one that was used up by a binding that failed since: the API server still shows it."""
        self.nominated.pop(pod.uid, None)
        if pod.nominated is not None:
            pod.nominated = None
            self.world.write_pod(pod)

    def _fail(self, pod: SimPod, resolvable: dict[str, bool], now: float) -> None:
        self.unschedulable.add(pod.uid)
        nominated = self.nominated.get(pod.uid)
        if nominated is not None and any(
            self.on_node.get(uid) == nominated and p.terminating and p.priority < pod.priority for uid, p in self.cached.items()
        ):
            return  # its victims are still terminating
        self._drop_nomination(pod)
        candidates = [one for name in self.world.machines if resolvable.get(name, True) and (one := self._candidate(name, pod)) is not None]
        if not candidates:
            return
        kept = self.extender.preempt(self._payload(pod), candidates, now)
        given = {one.node: set(one.victims) for one in candidates}
        assert all(set(one.victims) <= given[one.node] and one.victims for one in kept), "only given uids are echoed"
        if not kept:
            return
        chosen = min(kept, key=lambda one: (max(self.cached[u].priority for u in one.victims), len(one.victims), one.node))
        self.preemptions += 1
        self.nominated[pod.uid] = chosen.node
        pod.nominated = chosen.node
        self.world.write_pod(pod)
        for uid in chosen.victims:
            self.world.evict(uid)

    def _candidate(self, node: str, pod: SimPod) -> Candidate | None:
        """Return the fewest victims with which the pod fits by count; pods of higher priority are reprieved first."""
        lower = [uid for uid, p in self.cached.items() if self.on_node.get(uid) == node and p.priority < pod.priority]
        victims = set(lower)
        if self.counted_free(node, pod, frozenset(victims)) < pod.gpus:
            return None
        for uid in sorted(lower, key=lambda uid: (-self.cached[uid].priority, self.cached[uid].created)):
            if self.counted_free(node, pod, frozenset(victims - {uid})) >= pod.gpus:
                victims.discard(uid)
        return Candidate(node, tuple(sorted(victims))) if victims else None

    def finish_binding(self, place: int, works: bool, now: float) -> None:
        """Finish a binding; if it fails, forget the assumed pod and retry it."""
        uid, node = self.in_flight.pop(place)
        pod = self.world.pods.get(uid)
        if pod is None:
            self.assumed.pop(uid, None)
        elif not (works and self.world.bind(uid, node, now)):
            self.assumed.pop(uid, None)
            if uid not in self.on_node and pod.node is None:
                self._error(pod, now)
