"""Clusters, hypotheses and what-if questions for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from extender.decision.pace import Pace, unhurried
from extender.decision.state.snapshot import Snapshot
from extender.decision.whatif.hypotheses import AddPods, Hypothesis, Unusable
from extender.decision.whatif.kube_objects import KubeObjects
from extender.decision.whatif.sequence import SequenceStart
from extender.decision.whatif.what_if_answer import PlacementAnswer, WhatIfAnswer, what_if_answer
from extender.decision.whatif.what_if_question import MOST_PODS, WhatIf, what_if
from extender.server.from_settings import decider
from extender.settings import Settings
from extender.sources.collected_objects import CollectedObjects
from extender.web.pod_manifests import pods_from
from tests.objects import GPU, node, pod, snapshot, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus

PRODUCTS = {
    "hgx-h100": ("NVIDIA-H100-80GB-HBM3", 8),
    "dgx-1v": ("Tesla-V100-SXM2-32GB", 8),
    "l40s": ("NVIDIA-L40S", 4),
    "t4": ("Tesla-T4", 4),
}


def gpu_node(name: str, platform: str, held: dict[str, tuple[int, ...]] | None = None, **spec: Any) -> list[dict[str, Any]]:
    """A node of a platform, its GpuTopology, and pods that hold some of its GPUs by the agent's report (pod name -> GPUs)."""
    count = PRODUCTS[platform][1]
    held = held or {}
    allocated = tuple(Allocation(index, f"uid-{owner}", "team", owner) for owner, gpus in held.items() for index in gpus)
    taken = {entry.index for entry in allocated}
    status = DeviceStatus(free=tuple(index for index in range(count) if index not in taken), allocated=allocated)
    manifests = [node(name, count) | ({"spec": spec} if spec else {}), topology(name, platform, status)]
    return manifests + [pod(len(gpus), name=owner, node=name) for owner, gpus in held.items()]


def waiting(name: str, gpus: int, created: str = "2026-01-01T00:00:00Z", priority: int | None = None, **more: Any) -> dict[str, Any]:
    """A pending pod."""
    manifest = pod(gpus, name=name, **more)
    manifest["metadata"]["creationTimestamp"] = created
    if priority is not None:
        manifest["spec"]["priority"] = priority
    return manifest


def added(gpus: int, count: int = 1, name: str = "new", **more: Any) -> AddPods:
    """Some pods to add."""
    return AddPods(*pods_from(pod(gpus, name=name, **more)), count)


@dataclass(frozen=True)
class Cluster:
    """The manifests of a cluster, and what its settings are."""

    manifests: Sequence[dict[str, Any]]
    settings: Settings = field(default_factory=Settings)
    are_pods_known: bool = True

    @property
    def snapshot(self) -> Snapshot:
        return snapshot(*self.manifests)

    @property
    def kube(self) -> KubeObjects:
        collected = CollectedObjects()
        for manifest in self.manifests:
            collected(manifest["kind"], manifest)
        bound = {name: tuple(pods) for name, pods in collected.pods.items()}
        return KubeObjects(bound if self.are_pods_known else None, collected.pending)

    def start(self, *, agents_report: bool = False) -> SequenceStart:
        return SequenceStart(self.snapshot, self.kube, agents_report=agents_report)

    def asked(
        self,
        *hypotheses: Hypothesis,
        then: Settings | None = None,
        most_pods: int = MOST_PODS,
        pace: Pace = unhurried,
        agents_report: bool = False,
    ) -> WhatIf | Unusable:
        """The result of a question."""
        start, settings = self.start(agents_report=agents_report), self.settings
        deciders = decider(settings), decider(then or settings)
        return what_if(start, hypotheses, *deciders, settings.is_foreign, most_pods, pace)

    def answer(self, *hypotheses: Hypothesis, then: Settings | None = None, pace: Pace = unhurried) -> WhatIfAnswer:
        """The answer to a question that can be answered."""
        result = self.asked(*hypotheses, then=then, pace=pace)
        assert isinstance(result, WhatIf), result
        return what_if_answer(result, GPU)

    def with_settings(self, settings: Settings) -> Cluster:
        return replace(self, settings=settings)


def placements(answer: WhatIfAnswer) -> dict[str, PlacementAnswer]:
    """Pod name -> where it goes with the hypotheses."""
    return {pod.pod.partition("/")[2]: pod.after for pod in answer.pods}


def nodes(answer: WhatIfAnswer) -> dict[str, str | None]:
    """Pod name -> its node with the hypotheses."""
    return {name: placement.node for name, placement in placements(answer).items()}


def free(answer: WhatIfAnswer) -> int:
    """Free GPUs after the hypotheses and placements."""
    return sum(row.free_gpus for row in answer.capacity_after)
