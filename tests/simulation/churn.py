"""One node under churn: a kubelet that serves pods at once, an API server that shows them later, an agent that reports periodically.

Pods are deleted and, shortly after the API server has shown that, created again. Each change reaches the extender in the order of its time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from extender.decision.state.changes import ClockTicked
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import gone, seen
from extender.sources.simulated import node_manifest
from tests.objects import GPU
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine, union_of
from topology.placement.shared_tables import table_for

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Delays:
    """Ranges of seconds; each delay is drawn from a uniform distribution."""

    admission: tuple[float, float] = (0.005, 0.05)
    """From the binding to the kubelet's choice of devices."""
    own_status: tuple[float, float] | None = (0.1, 1.0)
    """From the choice of devices to `allocatedResourcesStatus` on the pod; None: the cluster does not have it."""
    termination: tuple[float, float] = (0.1, 2.0)
    """From the deletion, which the API server shows as a deletion timestamp, to the end of the containers."""
    freeing: tuple[float, float] = (0.0, 0.5)
    """From the end of the containers to the release of the devices by the kubelet."""
    end_shown: tuple[float, float] = (0.02, 0.5)
    """From the end of the containers to the phase that the API server shows."""
    report: tuple[float, float] = (0.01, 0.05)
    """From the agent's query of the kubelet to its status on the API server."""
    recreation: float = 0.3
    """From the deletion, or from a visible end, to the next pod."""
    agent_interval: float | None = 5.0
    """Between two reports of the agent; None: the agent fails after its first report."""


@dataclass
class NonGpuPod:
    """A pod as the kubelet knows it."""

    uid: str
    name: str
    gpus: int
    bound_at: float
    devices: int = 0
    own: bool = False
    phase: str = "Running"
    deleted: bool = False
    freed: bool = False
    """Whether the kubelet counts its devices as free."""

    def manifest(self, machine: Machine) -> dict[str, Any]:
        """Return the pod as the API server has it."""
        meta = {"name": self.name, "namespace": "team", "uid": self.uid, "creationTimestamp": _stamp(self.bound_at)}
        if self.deleted:
            meta["deletionTimestamp"] = _stamp(self.bound_at + 3600)
        spec = {"nodeName": "n", "containers": [{"name": "c", "resources": {"limits": {GPU: str(self.gpus)}}}]}
        conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": _stamp(self.bound_at)}]
        status: dict[str, Any] = {"phase": self.phase, "conditions": conditions}
        if self.own:
            ids = [{"resourceID": gpu.uuid} for place, gpu in enumerate(machine.gpus) if self.devices >> place & 1]
            status["containerStatuses"] = [{"name": "c", "allocatedResourcesStatus": [{"name": GPU, "resources": ids}]}]
        return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": status}


@dataclass
class Churn:
    """The run of one node."""

    machine: Machine
    dice: random.Random
    delays: Delays
    same_names: bool = False
    """Whether a pod is created again under the name of the deleted one, as a StatefulSet does."""
    sizes: tuple[int, ...] = (1, 2, 2, 4)
    now: float = 0.0
    last_admission: float = 0.0
    """The kubelet admits pods one by one, as they are bound."""
    state: Snapshot = field(default_factory=Snapshot)
    non_gpu_pods: dict[str, NonGpuPod] = field(default_factory=dict)
    predicted: dict[str, frozenset[int]] = field(default_factory=dict)
    """Pod uid -> the sets predicted for it at its binding, as masks."""
    results: list[bool] = field(default_factory=list)
    """For each admitted pod, whether its set is among the predicted sets."""
    refused: int = 0
    """Pods that were refused although the node had enough free GPUs."""
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def run(self, pods: int) -> None:
        """Run until this number of pods has been admitted."""
        self._see("Node", node_manifest("n", self.machine))
        self._report()
        self._at(0.5, self._create)
        for number in range(2):
            self._at(1.0 + 0.37 * number, self._replace_one)
        while len(self.results) < pods:
            self.now, _, act = heapq.heappop(self._agenda)
            act()

    def _at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + delay, next(self._numbers), act))

    def _draw(self, range_seconds: tuple[float, float]) -> float:
        return self.dice.uniform(*range_seconds)

    def _see(self, kind: str, manifest: dict[str, Any], deleted: bool = False) -> None:
        change = gone(kind, manifest) if deleted else seen(kind, manifest)
        self.state = fold_all(self.state, (ClockTicked(None, self.now), change), GPU)

    @property
    def _free(self) -> int:
        return (1 << len(self.machine.gpus)) - 1 & ~union_of(pod.devices for pod in self.non_gpu_pods.values() if not pod.freed)

    def _create(self, name: str | None = None) -> None:
        """Bind a pod if the API server's count leaves room, and predict its set at that moment."""
        number = next(self._numbers)
        size = self.dice.choice(self.sizes)
        view = self.state.views["n"]
        if size <= view.state.allocatable - view.state.requested:
            self.refused += size > view.state.free_count
            pod = NonGpuPod(f"uid-{number}", name or f"pod-{number}", size, self.now)
            table = table_for(self.machine)
            outcomes = [one for free, _ in view.state.free_sets for one in table.predictor.predict(free, ((size, False),)).outcomes]
            self.predicted[pod.uid] = frozenset(one.taken for one in outcomes)
            self.non_gpu_pods[pod.uid] = pod
            self._see("Pod", pod.manifest(self.machine))
            self.last_admission = max(self.now + self._draw(self.delays.admission), self.last_admission)
            self._at(self.last_admission - self.now, lambda: self._admit(pod))

    def _admit(self, pod: NonGpuPod) -> None:
        outcomes = table_for(self.machine).predictor.predict(self._free, ((pod.gpus, False),)).outcomes
        if not outcomes:  # the kubelet has not freed enough yet: UnexpectedAdmissionError
            pod.freed, pod.phase = True, "Failed"
            self._see("Pod", pod.manifest(self.machine))
            self._show_deletion(pod)
            return
        pod.devices = self.dice.choices([one.taken for one in outcomes], [one.probability for one in outcomes])[0]
        self.results.append(pod.devices in self.predicted.pop(pod.uid))
        if self.delays.own_status is not None:
            self._at(self._draw(self.delays.own_status), lambda: self._show_devices(pod))

    def _show_devices(self, pod: NonGpuPod) -> None:
        if pod.uid in self.non_gpu_pods and pod.phase == "Running":
            pod.own = True
            self._see("Pod", pod.manifest(self.machine))

    def _replace_one(self) -> None:
        """Delete a pod; create another one shortly after, and one more when the end of the first is visible."""
        running = [pod for pod in self.non_gpu_pods.values() if pod.devices and not pod.deleted]
        if running:
            pod = self.dice.choice(running)
            pod.deleted = True
            self._see("Pod", pod.manifest(self.machine))
            self._at(self._draw(self.delays.termination), lambda: self._end(pod))
            self._at(self.delays.recreation, self._create)
        self._at(self.dice.uniform(0.8, 2.4), self._replace_one)

    def _end(self, pod: NonGpuPod) -> None:
        """End the containers: the kubelet frees the devices and writes the phase, in any order, then deletes the pod."""
        freed, shown = self._draw(self.delays.freeing), self._draw(self.delays.end_shown)
        self._at(freed, lambda: self._free_devices(pod))
        self._at(shown, lambda: self._show_phase(pod))
        self._at(max(freed, shown) + 0.02, lambda: self._show_deletion(pod))

    def _free_devices(self, pod: NonGpuPod) -> None:
        pod.freed = True

    def _show_phase(self, pod: NonGpuPod) -> None:
        pod.phase = "Succeeded"
        self._see("Pod", pod.manifest(self.machine))

    def _show_deletion(self, pod: NonGpuPod) -> None:
        del self.non_gpu_pods[pod.uid]
        self._see("Pod", pod.manifest(self.machine), deleted=True)
        self._at(self.delays.recreation, lambda: self._create(pod.name if self.same_names else None))

    def _report(self) -> None:
        """The agent queries the kubelet; its status is on the API server shortly after."""
        places = range(len(self.machine.gpus))
        held = [(place, pod) for pod in self.non_gpu_pods.values() if not pod.freed for place in places if pod.devices >> place & 1]
        free = tuple(gpu.index for place, gpu in enumerate(self.machine.gpus) if self._free >> place & 1)
        entries = tuple(Allocation(self.machine.gpus[place].index, None, "team", pod.name) for place, pod in held)
        manifest = encode(TopologyRecord("n", self.machine, DeviceStatus(free, entries, (), START + self.now)))
        self._at(self._draw(self.delays.report), lambda: self._see("GpuTopology", manifest))
        if self.delays.agent_interval is not None:
            self._at(self.delays.agent_interval, self._report)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(START + int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
