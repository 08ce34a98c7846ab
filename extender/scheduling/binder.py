"""The bind verb's work: judge the one node anew, write the binding, make sure of it.

kube-scheduler binds asynchronously, so between its decision and this the node may have been taken by somebody else. No lock is held here;
what must not happen twice is kept apart by the API server: a binding names the pod's uid, and a bound pod cannot be bound again.
"""

from __future__ import annotations

import logging
import time

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.cycle.scheduling_cycle import EvaluationContext, begin, filtered
from extender.decision.evaluate.evaluator import evaluate_nodes
from extender.decision.evaluate.verdict import Evidence
from extender.decision.report.placement_record import PlacementRecord, placement_record_of
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.reasons import Rejection
from extender.decision.state.pods import RECORD_ANNOTATION
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.ports import ClusterWriter
from extender.settings import Settings

logger = logging.getLogger("fabricwise.binding")

NO_API_SERVER = (
    "fabricwise watches no API server, so it cannot bind: start it with --cluster kube, or remove bindVerb in kube-scheduler's settings"
)
NOT_SYNCED = "fabricwise has not yet listed nodes, pods and topologies; try again"


class Binder:
    """Binds pods. Called from several threads at once; keeps nothing between two calls."""

    def __init__(
        self, store: ClusterStore, context: EvaluationContext, settings: Settings, log: DecisionLog, writer: ClusterWriter
    ) -> None:
        self._store, self._context, self._settings, self._log, self._writer = store, context, settings, log, writer

    def bind(self, namespace: str, name: str, uid: str, node: str) -> str:
        """Bind a pod to a node. The empty string: it is bound there, now or already; else why it is not."""
        write, look_up = self._writer.bind, self._writer.pod
        if write is None or look_up is None:
            return NO_API_SERVER
        snapshot = self._store.snapshot
        if not snapshot.synced:
            return NOT_SYNCED
        bound = snapshot.pods.get(uid)
        if bound is not None:
            return "" if bound.node == node else f"pod {namespace}/{name} is already bound to {bound.node}"
        pending = snapshot.pending.get(uid)
        pod = pending.pod if pending else look_up(namespace, name)
        if isinstance(pod, str):
            return pod
        if pod.metadata.uid != uid:
            return f"pod {namespace}/{name} has been replaced by another of that name"
        record = self._evaluated(pod, node)
        if isinstance(record, str):
            self._store.release(uid)  # kube-scheduler gives it up too; where only the write fails, it may have been done all the same
            return record
        error = write(namespace, name, uid, node, {RECORD_ANNOTATION: record.as_json()})
        if error:
            logger.warning("pod %s/%s not bound to %s: %s", namespace, name, node, error)
        return error

    def _evaluated(self, pod: Pod, node: str) -> PlacementRecord | str:
        """What the pod will get there by the latest state; or why it must not go there any more."""
        now = time.monotonic()
        snapshot, assumed_pods = self._store.moment
        cycle = begin(snapshot, assumed_pods, pod, self._settings.resource, now, decided=True)
        if self._settings.is_foreign(pod.spec.scheduler_name):
            return placement_record_of(pod.key, node, Evidence(notes=("placed by another scheduler, not judged",)))
        verdicts = evaluate_nodes(self._context.evaluator, snapshot, cycle.demand, [node], cycle.extra_pods)
        found = filtered(cycle, [node], verdicts, self._context)
        (verdict,) = found.verdicts
        if found.stall is not None:
            return found.stall.value
        if verdict.rejection is not None:
            return f"node {node} does not suit the pod any more: {verdict.rejection.reason} ({verdict.rejection.detail})"
        record, demand = placement_record_of(pod.key, node, verdict.evidence), cycle.demand
        if isinstance(demand, Rejection) or not demand.total:
            return record
        self._log.add_record(pod.key, record)
        before = self._store.assumed_pods.by_pod.get(pod.key)
        if self._settings.assumed_pods.ttl_seconds > 0 and (
            before is None or before.node != node
        ):  # this is what kube-scheduler made of it
            meta, until = pod.metadata, now + self._settings.assumed_pods.ttl_seconds
            self._store.assume(
                AssumedPod(pod.key, meta.namespace or "default", meta.name, node, demand, verdict.evidence, now, until, record.id)
            )
        return record
