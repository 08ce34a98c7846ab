"""Questions to `why_answer` from Kubernetes manifests, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPods
from extender.decision.cycle.scheduling_cycle import EvaluationContext, Moment
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.request.workload_classes import read_classes
from extender.decision.state.changes import Change, ClassesSeen, TelemetrySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.why.pod_question import Question
from extender.decision.why.scheduler_reports import reported_of
from extender.decision.why.why_pod import why_answer
from extender.decision.why.why_types import WhyAnswer, WhyRemedy
from extender.server.from_settings import ranker
from extender.settings import Scoring
from extender.telemetry.readings import DeviceReading
from tests.objects import GPU, node, pod, pod_struct, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of, platforms

NOW_SECONDS = 1_800_000_000.0
GIB = 1 << 30
Manifest = dict[str, Any]
TAINT: Manifest = {"key": "team", "value": "research", "effect": "NoSchedule"}


def question(
    wanted: Manifest,
    *manifests: Manifest,
    events: list[Manifest] | None = None,
    classes: list[Manifest] | None = None,
    telemetry: Sequence[TelemetrySeen] = (),
    assumed_pods: AssumedPods = NO_ASSUMED_PODS,
    policy: Policy = DEFAULT_POLICY,
    are_pods_known: bool = True,
    is_kept: bool = False,
    **more: Any,
) -> Question:
    """Return the question about a pod in a cluster of these objects. `is_kept`: only what the extender keeps of the pod is known."""
    changes: list[Change] = [*telemetry]
    if classes is not None:
        changes.insert(0, ClassesSeen(read_classes({"classes": classes})))
    state = fold_all(snapshot(*manifests, wanted), changes, GPU)
    evaluator = Evaluator(policy)
    evaluator.learn(state)
    bound: dict[str, tuple[KubePod, ...]] = {}
    for manifest in [*manifests, wanted]:
        node_name = manifest["spec"].get("nodeName") if manifest["kind"] == "Pod" else None
        if node_name:
            bound[node_name] = (*bound.get(node_name, ()), msgspec.convert(manifest, KubePod, strict=False))
    asked = pod_struct(wanted)
    return Question(
        pod=asked,
        kube_pod=None if is_kept else msgspec.convert(wanted, KubePod, strict=False),
        moment=Moment(state, assumed_pods, 0.0),
        context=EvaluationContext(evaluator, GPU, NODE_DEFAULTS),
        ranker=ranker(Scoring()),
        around=Surroundings(state.nodes, bound if are_pods_known else None),
        reported=reported_of(asked, events),
        now_seconds=NOW_SECONDS,
        **more,
    )


def ask(wanted: Manifest, *manifests: Manifest, **more: Any) -> WhyAnswer:
    """Return the answer about a pod in a cluster of these objects."""
    return why_answer(question(wanted, *manifests, **more))


def machine_node(
    name: str,
    platform: str,
    held: Mapping[str, Sequence[int]] | None = None,
    *,
    unhealthy: Sequence[tuple[int, str]] = (),
    priority: int = 0,
    **spec: Any,
) -> list[Manifest]:
    """Return a node of a bundled platform, its GpuTopology, and the pods on it. `held`: pod name -> the indices that it holds."""
    described, machine = platforms()[platform], machine_of(platform, name)
    pods = dict(held or {})
    allocated = tuple(Allocation(index, f"uid-{pod_name}", "team", pod_name) for pod_name, indices in pods.items() for index in indices)
    record = TopologyRecord(name, machine, DeviceStatus(None, allocated, tuple(unhealthy)))
    labels = {"kubernetes.io/hostname": name}
    of_node = node(name, described.gpus, described.product.replace(" ", "-"), described.memory_gib * 1024, labels)
    holders = [pod(len(indices), name=pod_name, node=name, spec={"priority": priority}) for pod_name, indices in pods.items()]
    return [of_node | ({"spec": spec} if spec else {}), encode(record), *holders]


def waiting_pod(*gpus: int, spec: Manifest | None = None, **annotations: str) -> Manifest:
    """Return the Pending pod of a test; annotations without their prefix, with underscores."""
    prefixed = {f"fabricwise.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return pod(*gpus, name="waits", annotations=prefixed, spec=spec or {})


def reading(name: str, index: int, used_gib: float = 0.0, total_gib: float = 80.0, **more: Any) -> DeviceReading:
    """Return one reading of a GPU of `machine_node`."""
    used, total = int(used_gib * GIB), int(total_gib * GIB)
    fields: Manifest = {"index": index, "fb_used_bytes": used, "fb_free_bytes": total - used, "xid": 0}
    return DeviceReading(f"GPU-{name}-{index}", **fields | more)


def failed(message: str, ago_seconds: float = 40.0, reason: str = "FailedScheduling") -> Manifest:
    """Return kube-scheduler's event about an attempt."""
    at = datetime.fromtimestamp(NOW_SECONDS - ago_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"kind": "Event", "reason": reason, "message": message, "lastTimestamp": at, "source": {"component": "gpu-scheduler"}}


def remedy(answer: WhyAnswer, kind: str) -> WhyRemedy:
    """Return the first remedy of a kind."""
    return next(each for each in answer.remedies if each.kind == kind)
