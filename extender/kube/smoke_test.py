"""Smoke test: a CUDA sample on one node with a free GPU, in a pod that kube-scheduler places and that is always deleted afterwards.

The sample takes no GPU from another pod: it runs only if a GPU is free by kube-scheduler's count, kube-scheduler accounts for it, it
preempts no pod, and any pod may preempt it. If it cannot run for such a reason, the result is `unknown`, not a failure of the node.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from extender.decision.report.checks.node_checks import Check, Status
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.quantity import quantity
from extender.decision.state.pods import held_demand
from extender.kube.api_requests import ApiRequests
from extender.kube.listing import items_of
from extender.kube.objects.resources import Resource
from topology.agent.publisher import ApiError

POLL_SECONDS = 0.5
GRACE_SECONDS = 5
"""Grace period of a sample that still runs when it is deleted; the API server deletes a pod that has ended or has no node at once."""

PRIORITY_CLASS = "fabricwise-smoke"
_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
PRIORITY_MANIFEST = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": PRIORITY_CLASS},
    "value": -1_000_000,
    "preemptionPolicy": "Never",
    "description": "Samples of fabricwise doctor --smoke: they preempt no pod, and any pod may preempt them.",
}
"""The same object as in manifests/base."""

NOT_ADMITTED = ("UnexpectedAdmissionError", "NodeAffinity", "NodeShutdown", "Preempting", "Evicted", "TopologyAffinityError", "Terminated")
"""Values of status.reason of a pod that its kubelet rejected or evicted in favour of another pod; OutOf<resource> is another one."""

_LATER = "try again when a GPU is free"


@dataclass(frozen=True, slots=True)
class Sample:
    """What to run, and on which node."""

    node: str
    image: str
    resource: str
    namespace: str
    deadline_seconds: float
    scheduler: str = "default-scheduler"


def smoke(api: ApiRequests, sample: Sample) -> Check:
    """Run the sample and return the check: pass, fail, or unknown if it could not run."""
    skipped = _no_free_gpu(api, sample)
    if skipped is not None:
        return skipped
    name = f"fabricwise-smoke-{uuid.uuid4().hex[:10]}"
    path = f"/api/v1/namespaces/{sample.namespace}/pods"
    try:
        api.create(path, smoke_pod(name, sample))
    except ApiError as error:
        return _unknown(f"pod not created: {error}", f"needs the right to create pods, and PriorityClass {PRIORITY_CLASS} (manifests/base)")
    try:
        result = _watched(api, f"{path}/{name}", sample)
    finally:
        not_deleted = _deleted(api, f"{path}/{name}")
    if not_deleted is None:
        return result
    return Check(
        "smoke", Status.WARN, f"{result.status}: {result.evidence}; {not_deleted}", f"kubectl delete pod -n {sample.namespace} {name}"
    )


@contextmanager
def smoke_priority(api: ApiRequests) -> Iterator[None]:
    """Create the samples' PriorityClass for the duration of a block, and delete it afterwards unless it existed before.

    If it cannot be created, the API server refuses the samples' pods, and their checks say so.
    """
    try:
        api.create(_CLASSES, PRIORITY_MANIFEST)
        created = True
    except ApiError:
        created = False
    try:
        yield
    finally:
        if created:
            _deleted(api, f"{_CLASSES}/{PRIORITY_CLASS}")


def smoke_pod(name: str, sample: Sample) -> dict[str, Any]:
    """Return the manifest of a pod that requests one GPU on the sample's node, tolerates every taint, and is placed by the scheduler."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [sample.node]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}}}
    container = {"name": "sample", "image": sample.image, "resources": {"limits": {sample.resource: "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": sample.namespace, "labels": {"app.kubernetes.io/name": "fabricwise-smoke"}},
        "spec": {
            "affinity": affinity,
            "schedulerName": sample.scheduler,
            "priorityClassName": PRIORITY_CLASS,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": max(1, int(sample.deadline_seconds)),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }


def _no_free_gpu(api: ApiRequests, sample: Sample) -> Check | None:
    """Return why the sample cannot run now; None if a GPU is free by kube-scheduler's count, which includes bound pods not yet admitted."""
    bound = Resource("Pod", "pods", "/api/v1/pods", f"spec.nodeName={sample.node},status.phase!=Succeeded,status.phase!=Failed")
    try:
        node = api.get(f"/api/v1/nodes/{sample.node}")
        allocatable = int(quantity(((node.get("status") or {}).get("allocatable") or {}).get(sample.resource, "0")))
        allocated = sum(_allocated(item, sample.resource) for item in items_of(api, bound))
    except (ApiError, ValueError) as error:
        return _unknown(f"skipped: whether a GPU is free could not be read: {error}", "needs the rights to get nodes and list pods")
    if allocatable == 0:
        return _unknown(f"skipped: the node offers no {sample.resource}", "see the check `advertised`")
    if allocated >= allocatable:
        return _unknown(f"skipped: all GPUs in use, {allocated} of {allocatable} {sample.resource}", "try again when one is free")
    return None


def _allocated(item: dict[str, Any], resource: str) -> int:
    try:
        demand = held_demand(msgspec.convert(item, Pod, strict=False), resource)
    except msgspec.ValidationError:
        return 0
    return demand.total if demand is not None else 0


def _watched(api: ApiRequests, path: str, sample: Sample) -> Check:
    started, pod = time.monotonic(), dict[str, Any]()
    while (passed_seconds := time.monotonic() - started) < sample.deadline_seconds:
        try:
            pod = api.get(path)
        except ApiError as error:
            if error.status == 404:
                return _unknown("skipped: the sample's pod was deleted, for a pod of higher priority or by a controller", "try again")
            return _unknown(f"the pod could not be read: {error}", "try again")
        result = outcome(pod, sample.image, passed_seconds)
        if result is not None:
            return result
        time.sleep(POLL_SECONDS)
    waited = f"within {sample.deadline_seconds:g} s{_why(pod.get('status') or {})}"
    if not (pod.get("spec") or {}).get("nodeName"):
        return _unknown(f"skipped: scheduler {sample.scheduler} did not place the sample {waited}", "check that this scheduler runs")
    return Check("smoke", Status.FAIL, f"{sample.image} did not end {waited}", "see kubectl describe node, and the pod's image")


UNSCHEDULABLE_SECONDS = 5.0
"""How long a refusal by kube-scheduler is not final: its first attempt can come before it sees the node, or a GPU that is free again."""


def outcome(pod: Mapping[str, Any], image: str, passed_seconds: float) -> Check | None:
    """Return the check that follows from the state of the sample's pod; None while the pod has not ended and can still run."""
    status, bound = pod.get("status") or {}, bool((pod.get("spec") or {}).get("nodeName"))
    phase, reason = status.get("phase"), str(status.get("reason") or "")
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or ()}
    if phase == "Succeeded":
        return Check("smoke", Status.PASS, f"{image} succeeded after {passed_seconds:.1f} s")
    disrupted = (conditions.get("DisruptionTarget") or {}).get("status") == "True"
    if phase == "Failed" and (reason in NOT_ADMITTED or reason.startswith("OutOf") or disrupted):
        return _unknown(f"skipped: the kubelet rejected or evicted the sample in favour of another pod{_why(status)}", _LATER)
    if phase == "Failed":
        return Check(
            "smoke", Status.FAIL, f"{image} failed after {passed_seconds:.1f} s{_why(status)}", "run the image on the node by hand"
        )
    scheduled = conditions.get("PodScheduled") or {}
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    if not bound and refused and passed_seconds >= UNSCHEDULABLE_SECONDS:
        evidence = f"skipped: kube-scheduler does not place the sample: {scheduled.get('message') or 'without a message'}"
        return _unknown(evidence[:400], _LATER)
    return None


def _unknown(evidence: str, remedy: str) -> Check:
    return Check("smoke", Status.UNKNOWN, evidence, remedy)


def _deleted(api: ApiRequests, path: str) -> str | None:
    """Delete an object. Returns None, or why it may still exist."""
    try:
        api.delete(path, GRACE_SECONDS)
    except ApiError as error:
        if error.status != 404:
            return f"{path.rsplit('/', 1)[1]} could not be deleted: {error}"
    return None


def _why(status: Mapping[str, Any]) -> str:
    parts = [str(status.get(key)) for key in ("reason", "message") if status.get(key)]
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or (container.get("state") or {}).get("terminated") or {}
        parts += [str(waiting[key]) for key in ("reason", "message") if waiting.get(key)]
    return f": {', '.join(parts)[:300]}" if parts else ""
