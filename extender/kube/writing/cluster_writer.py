"""The `ClusterWriter` of an API server: events, one annotation on pending pods, bindings, and DeviceTaintRules."""

from __future__ import annotations

from typing import Any

from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Known
from extender.decision.request.kubernetes_objects import Pod
from extender.kube.api_client import Client
from extender.kube.api_requests import ApiRequests
from extender.kube.writing.device_taint_rules import DeviceTaintRules
from extender.kube.writing.events import PodEvents
from extender.kube.writing.pod_binding import PodBinding
from extender.kube.writing.requeue_annotation import RequeueAnnotation


class KubeClusterWriter:
    """Writes to one API server. Implements `extender.scheduling.ports.ClusterWriter`."""

    is_read_only = False

    def __init__(self, events: PodEvents, requeuing: RequeueAnnotation, binding: PodBinding, rules: DeviceTaintRules) -> None:
        self._events, self._requeuing, self._binding, self._rules = events, requeuing, binding, rules

    def post_placement(self, pod: BoundPod, record: PlacementRecord) -> None:
        """Post an event on what was predicted for a bound pod, in a thread."""
        self._events.placed(pod, record)

    def post_floor_missed(self, known: Known, floor_gbps: float) -> None:
        """Post an event on a pod that got less bandwidth than it demands, in a thread."""
        self._events.floor_missed(known, floor_gbps)

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        """Annotate a pending pod, so that kube-scheduler tries it again. Return whether that succeeded."""
        return self._requeuing.requeue(namespace, name, uid)

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        """Bind a pod to a node. Return the empty string once it is bound there, else the error."""
        return self._binding.bind(namespace, name, uid, node, annotations)

    def get_pod(self, namespace: str, name: str) -> Pod | str:
        """Return the pod as the API server has it, or the error."""
        return self._binding.pod(namespace, name)

    def create_taint_rule(self, manifest: dict[str, Any]) -> bool:
        """Create a DeviceTaintRule without apiVersion. Return whether it exists now."""
        return self._rules.create(manifest)

    def delete_taint_rule(self, name: str) -> bool:
        """Delete a DeviceTaintRule. Return whether it is gone now."""
        return self._rules.delete(name)


def cluster_writer(client: Client, binding_timeout_seconds: float) -> KubeClusterWriter:
    """Return a writer that uses one client, with a timeout of its own for bindings."""
    return KubeClusterWriter(
        events=PodEvents(ApiRequests(client)),
        requeuing=RequeueAnnotation(ApiRequests(client)),
        binding=PodBinding(ApiRequests(client, binding_timeout_seconds)),
        rules=DeviceTaintRules(ApiRequests(client)),
    )
