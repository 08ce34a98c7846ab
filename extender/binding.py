"""The bind verb's work: judge the one node anew, write the binding, make sure of it.

kube-scheduler binds asynchronously, so between its decision and this the node may have been taken by somebody else. No lock is held here;
what must not happen twice is kept apart by the API server: a binding names the pod's uid, and a bound pod cannot be bound again.
"""

from __future__ import annotations

import logging
import time

from extender.decision.cycle import World, begin, filtered
from extender.decision.holds import Hold
from extender.decision.judge import judge_all
from extender.decision.load import RECORD_ANNOTATION
from extender.decision.objects import Pod
from extender.decision.reasons import Rejection
from extender.decision.record import Record, record_of
from extender.decision.verdict import Evidence
from extender.decision_log import DecisionLog
from extender.live import LiveCluster
from extender.reports import Reports
from extender.settings import Settings

logger = logging.getLogger("fabricwise.binding")

NO_API_SERVER = (
    "fabricwise watches no API server, so it cannot bind: start it with --cluster kube, or remove bindVerb in kube-scheduler's settings"
)
NOT_SYNCED = "fabricwise has not yet listed nodes, pods and topologies; try again"


class Binder:
    """Binds pods. Called from several threads at once; keeps nothing between two calls."""

    def __init__(self, live: LiveCluster, world: World, settings: Settings, log: DecisionLog, reports: Reports) -> None:
        self._live, self._world, self._settings, self._log, self._reports = live, world, settings, log, reports

    def bind(self, namespace: str, name: str, uid: str, node: str) -> str:
        """Bind a pod to a node. The empty string: it is bound there, now or already; else why it is not."""
        write, look_up = self._reports.bind, self._reports.pod
        if write is None or look_up is None:
            return NO_API_SERVER
        snapshot = self._live.snapshot
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
        record = self._judged(pod, node)
        if isinstance(record, str):
            self._live.release(uid)  # kube-scheduler gives it up too; where only the write fails, it may have been done all the same
            return record
        error = write(namespace, name, uid, node, {RECORD_ANNOTATION: record.as_json()})
        if error:
            logger.warning("pod %s/%s not bound to %s: %s", namespace, name, node, error)
        return error

    def _judged(self, pod: Pod, node: str) -> Record | str:
        """What the pod will get there by the latest state; or why it must not go there any more."""
        now = time.monotonic()
        snapshot, holds = self._live.moment
        cycle = begin(snapshot, holds, pod, self._settings.resource, now, decided=True)
        if self._settings.is_foreign(pod.spec.scheduler_name):
            return record_of(pod.key, node, Evidence(notes=("placed by another scheduler, not judged",)))
        verdicts = judge_all(self._world.judge, snapshot, cycle.demand, [node], cycle.guests)
        found = filtered(cycle, [node], verdicts, self._world)
        (verdict,) = found.verdicts
        if found.stall is not None:
            return found.stall.value
        if verdict.rejection is not None:
            return f"node {node} does not suit the pod any more: {verdict.rejection.reason} ({verdict.rejection.detail})"
        record, demand = record_of(pod.key, node, verdict.evidence), cycle.demand
        if isinstance(demand, Rejection) or not demand.may_hold_gpus:
            return record
        self._log.add_record(pod.key, record)
        before = self._live.holds.by_pod.get(pod.key)
        if self._settings.holds.ttl_seconds > 0 and (before is None or before.node != node):  # this is what kube-scheduler made of it
            meta, until = pod.metadata, now + self._settings.holds.ttl_seconds
            self._live.hold(Hold(pod.key, meta.namespace or "default", meta.name, node, demand, verdict.evidence, now, until, record.id))
        return record
