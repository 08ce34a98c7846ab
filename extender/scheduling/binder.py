"""The bind verb: evaluate the one node again, write the binding, and verify it.

kube-scheduler binds asynchronously, so the node may have been taken since the decision. No lock is held while the binding is written: a
binding names the pod's uid, and the API server refuses to bind a bound pod again.
"""

from __future__ import annotations

import logging
import time

from extender.decision.cycle.scheduling_cycle import EvaluationContext, by_feasibility, evaluate_pod
from extender.decision.evaluate.verdict import Evidence
from extender.decision.report.placement_record import PlacementRecord, placement_record_of
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.reasons import Rejection
from extender.decision.state.pods import RECORD_ANNOTATION
from extender.scheduling.assume import assumed_pod_of
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.ports import NO_API_SERVER, ClusterWriter
from extender.settings import Settings

logger = logging.getLogger("fabricwise.binding")

NOT_SYNCED = "fabricwise has not yet listed nodes, pods and topologies; try again"


class Binder:
    """Binds pods. Safe to be called from several threads; keeps no state between calls."""

    def __init__(
        self, store: ClusterStore, context: EvaluationContext, settings: Settings, log: DecisionLog, writer: ClusterWriter
    ) -> None:
        self._store, self._context, self._settings, self._log, self._writer = store, context, settings, log, writer

    def bind(self, namespace: str, name: str, uid: str, node: str) -> str:
        """Bind a pod to a node. Return the empty string where the pod is bound there, now or already, else the error. May block."""
        if self._writer.is_read_only:
            return NO_API_SERVER
        snapshot = self._store.snapshot
        if not snapshot.synced:
            return NOT_SYNCED
        pending = snapshot.pending.get(uid)
        # A pod that is bound in the state is read as well: the watch may not have shown yet that it is deleted.
        pod = pending.pod if pending else self._writer.get_pod(namespace, name)
        if isinstance(pod, str):
            return pod
        if pod.metadata.uid != uid:
            return f"pod {namespace}/{name} has been replaced by another of that name"
        if pod.spec.node_name:
            return "" if pod.spec.node_name == node else f"pod {namespace}/{name} is already bound to {pod.spec.node_name}"
        record = self._evaluate_again(pod, node)
        if isinstance(record, str):
            self._store.release(uid)  # kube-scheduler gives up this cycle too; after a failed write the pod may be bound all the same
            return record
        error = self._writer.bind(namespace, name, uid, node, {RECORD_ANNOTATION: record.as_json()})
        if error:
            logger.warning("pod %s/%s not bound to %s: %s", namespace, name, node, error)
        return error

    def _evaluate_again(self, pod: Pod, node: str) -> PlacementRecord | str:
        """Return what the pod will get on the node by the newest state, or why the node is infeasible now."""
        if self._settings.is_foreign(pod.spec.scheduler_name):
            return placement_record_of(pod.key, node, Evidence(notes=("placed by another scheduler, not judged",)))
        self._context.evaluator.record_decisions()
        moment = self._store.moment(time.monotonic())
        evaluation = evaluate_pod(self._context, moment, pod, [node], by_feasibility, is_decided=True)
        if evaluation.stall is not None:
            return evaluation.stall.value
        (verdict,) = evaluation.verdicts
        if verdict.rejection is not None:
            return f"node {node} does not suit the pod any more: {verdict.rejection.reason} ({verdict.rejection.detail})"
        record, demand = placement_record_of(pod.key, node, verdict.evidence), evaluation.cycle.demand
        if isinstance(demand, Rejection) or not demand.may_hold_gpus:
            return record
        self._log.add_record(pod.key, record)
        before, ttl_seconds = self._store.assumed_pods.by_pod.get(pod.key), self._settings.assumed_pods.ttl_seconds
        if ttl_seconds > 0 and (before is None or before.node != node):  # kube-scheduler has chosen another node than the decided one
            self._store.assume(assumed_pod_of(pod, demand, verdict.evidence, record, moment.monotonic_seconds, ttl_seconds))
        return record
