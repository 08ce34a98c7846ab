"""Implementations of the ports for tests: a writer that keeps what it would write, and a leadership that the test decides."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Known
from extender.decision.request.kubernetes_objects import Pod
from extender.scheduling.ports import AlwaysLeading, Cluster, Leadership


@dataclass
class RecordingWriter:
    """Keeps what it would write, in order. Thread-safe."""

    is_read_only: bool = False
    requeue_succeeds: bool = True
    binding_error: str = ""
    """What `bind` returns."""
    pod: Pod | str = "pod team/llm is not there"
    """What `get_pod` returns."""
    placements: list[tuple[BoundPod, PlacementRecord]] = field(default_factory=list)
    floors_missed: list[tuple[Known, float]] = field(default_factory=list)
    requeued: list[str] = field(default_factory=list)
    """Uids."""
    bindings: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Uid, node and annotations."""
    taint_rules: list[str] = field(default_factory=list)
    """Names of the DeviceTaintRules that exist."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def post_placement(self, pod: BoundPod, record: PlacementRecord) -> None:
        with self.lock:
            self.placements.append((pod, record))

    def post_floor_missed(self, known: Known, floor_gbps: float) -> None:
        with self.lock:
            self.floors_missed.append((known, floor_gbps))

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        with self.lock:
            self.requeued.append(uid)
        return self.requeue_succeeds

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        with self.lock:
            self.bindings.append((uid, node, annotations))
        return self.binding_error

    def get_pod(self, namespace: str, name: str) -> Pod | str:
        return self.pod

    def create_taint_rule(self, manifest: dict[str, Any]) -> bool:
        with self.lock:
            self.taint_rules.append(manifest["metadata"]["name"])
        return True

    def delete_taint_rule(self, name: str) -> bool:
        with self.lock:
            self.taint_rules.remove(name)
        return True


@dataclass
class SettableLeadership:
    """Leads while `leads` is true."""

    leads: bool = False

    def is_leading(self) -> bool:
        return self.leads


def cluster_of(writer: RecordingWriter, leadership: Leadership | None = None) -> Cluster:
    """Return a cluster with that writer; without a leadership this replica always leads."""
    return Cluster("the cluster of a test", writer, leadership or AlwaysLeading())
