"""Which pending pods are requeued, when, and how often."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Change, Listed, PodGone, TopologySeen
from extender.kube.objects.decode import seen
from extender.metrics import Metrics
from extender.scheduling.requeue import LAG_SECONDS, Requeuer
from extender.scheduling.supervision import Supervisor
from extender.server.service import Service, build_service
from extender.settings import RequeueSettings, Settings
from tests.decision.verdicts.test_telemetry_decisions import looked, machine, reading
from tests.objects import node, pod
from tests.scheduling.cluster_writers import RecordingWriter, SettableLeadership, cluster_of
from tests.waiting import wait
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord

ONE, TWO, EIGHT = (Demand(((size, False),), size) for size in (1, 2, 8))
SENTINEL = "sentinel"


@dataclass
class Ward:
    """A service with two nodes of eight GPUs, all unhealthy, and a writer that keeps which pods are requeued."""

    service: Service
    writer: RecordingWriter

    @property
    def requeuer(self) -> Requeuer:
        return self.service.requeuer

    @property
    def requeued(self) -> list[str]:
        return self.writer.requeued

    def apply(self, *changes: Change) -> None:
        self.service.store.apply(changes)

    def set_unhealthy(self, name: str, gpus: int) -> None:
        """The agent of a node publishes that its first GPUs are unhealthy."""
        unhealthy = tuple((index, "Xid 79") for index in range(gpus))
        self.apply(TopologySeen(name, TopologyRecord(name, machine("hgx-h100", name), DeviceStatus(unhealthy=unhealthy))))

    def wait_until_all_before_is_handled(self) -> None:
        """Return once a pod is requeued that became due last: every pod that was due before has been handled by then.

        Its node has one healthy GPU, so it is feasible for no other pod of a test.
        """
        self.apply(seen("Node", node(SENTINEL, 8)))
        self.set_unhealthy(SENTINEL, 8)
        self.requeuer.rejected("team", SENTINEL, "uid-sentinel", ONE, [SENTINEL])
        self.set_unhealthy(SENTINEL, 7)
        wait("the sentinel pod is requeued", lambda: "uid-sentinel" in self.requeued)
        self.requeued.remove("uid-sentinel")


@pytest.fixture
def ward() -> Ward:
    return ward_of(SettableLeadership(leads=True))


def ward_of(leadership: SettableLeadership, supervisor: Supervisor | None = None, metrics: Metrics | None = None) -> Ward:
    writer = RecordingWriter()
    settings = Settings(requeue=RequeueSettings(max_per_second=50, pod_pause_seconds=0.2))
    ward = Ward(build_service(settings, cluster_of(writer, leadership), supervisor=supervisor, metrics=metrics), writer)
    ward.apply(Listed("nodes", (seen("Node", node("a", 8)), seen("Node", node("b", 8)))), Listed("pods", ()), Listed("topologies", ()))
    ward.set_unhealthy("a", 8)
    ward.set_unhealthy("b", 8)
    return ward


def test_resolved_rejection_requeues_only_the_pods_that_it_makes_feasible(ward: Ward) -> None:
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a", "b"])
    ward.requeuer.rejected("team", "elsewhere", "uid-elsewhere", TWO, ["b"])
    ward.requeuer.rejected("team", "eight", "uid-eight", EIGHT, ["a", "b"])
    ward.set_unhealthy("a", 4)
    wait("requeued", lambda: ward.requeued)
    ward.wait_until_all_before_is_handled()
    assert ward.requeued == ["uid-two"], "once; not the pod of other nodes, nor the one that still does not fit"


def test_telemetry_that_resolves_a_rejection_requeues_pods_in_the_order_they_were_rejected(ward: Ward) -> None:
    ward.apply(looked("a", 0, g1=reading("a", 1, 60)))
    ward.set_unhealthy("a", 0)
    for number in range(3):
        ward.requeuer.rejected("team", f"p{number}", f"uid-{number}", TWO, ["a"])
    ward.apply(looked("a", 15))
    wait("requeued", lambda: len(ward.requeued) == 3)
    assert ward.requeued == ["uid-0", "uid-1", "uid-2"]


def test_change_that_kube_scheduler_sees_itself_requeues_no_pod(ward: Ward) -> None:
    ward.set_unhealthy("a", 0)
    ward.apply(seen("Pod", pod(8, name="other", node="a")))
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    time.sleep(LAG_SECONDS)  # kube-scheduler's own state is not further ahead than this
    ward.apply(PodGone("uid-other"))
    ward.wait_until_all_before_is_handled()
    assert ward.requeued == []


def test_change_that_kube_scheduler_may_have_seen_before_the_rejection_requeues_the_pod(ward: Ward) -> None:
    """kube-scheduler's state is ahead: when it saw the event that resolves the rejection, the pod was not rejected yet."""
    ward.set_unhealthy("a", 0)
    ward.apply(seen("Pod", pod(8, name="other", node="a")))
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    ward.apply(PodGone("uid-other"))
    wait("requeued", lambda: ward.requeued == ["uid-two"])


def test_pod_that_is_bound_or_was_accepted_since_is_not_requeued(ward: Ward) -> None:
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    ward.requeuer.accepted("uid-two")
    ward.requeuer.rejected("team", "bound", "uid-bound", TWO, ["a"])
    ward.apply(seen("Pod", pod(2, name="bound", node="b")))
    ward.set_unhealthy("a", 0)
    ward.wait_until_all_before_is_handled()
    assert ward.requeued == []


def test_each_requeue_of_a_pod_doubles_the_pause_until_the_next(ward: Ward) -> None:
    started = time.monotonic()
    for _ in range(3):
        before = len(ward.requeued)
        ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
        ward.set_unhealthy("a", 8)
        ward.set_unhealthy("a", 0)
        wait("requeued", lambda before=before: len(ward.requeued) > before)  # type: ignore[misc]
    assert time.monotonic() - started >= 0.2 + 0.4


def test_failed_requeue_is_tried_again_three_times(ward: Ward) -> None:
    ward.writer.requeue_succeeds = False
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    ward.set_unhealthy("a", 0)
    wait("tried", lambda: len(ward.requeued) == 4, 30)
    ward.writer.requeue_succeeds = True
    ward.wait_until_all_before_is_handled()
    assert ward.requeued == ["uid-two"] * 4


def test_service_that_cannot_write_keeps_no_waiting_pods() -> None:
    service = build_service(Settings())
    service.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    assert not service.requeuer.waiting


def refused(name: str, uid: str, gpus: int = 2, message: str = "0/2 nodes are available: 2 too few healthy GPUs.") -> Change:
    """Return a pending pod with the condition that kube-scheduler sets after the extender has rejected every node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    manifest = pod(gpus, name=name, status={"conditions": [condition]})
    return seen("Pod", {**manifest, "metadata": {**manifest["metadata"], "uid": uid}})


def test_waiting_pods_are_known_from_their_conditions_alone(ward: Ward) -> None:
    """The replica that rejected the pod may have ended; this one has never answered a call about it."""
    ward.apply(refused("two", "uid-two"), refused("eight", "uid-eight", 8))
    ward.apply(refused("other", "uid-other", 2, "0/2 nodes are available: 2 Insufficient cpu."))
    ward.set_unhealthy("a", 4)
    wait("requeued", lambda: ward.requeued)
    ward.wait_until_all_before_is_handled()
    assert ward.requeued == ["uid-two"], "nor is a pod requeued that waits for CPU"


def test_pod_that_is_bound_or_deleted_does_not_wait_any_more(ward: Ward) -> None:
    ward.apply(refused("two", "uid-two"), refused("three", "uid-three"))
    assert set(ward.requeuer.waiting) == {"uid-two", "uid-three"}
    ward.apply(PodGone("uid-two"), seen("Pod", pod(2, name="three", node="b")))
    assert set(ward.requeuer.waiting) == {"uid-three"} or ward.requeuer.waiting == ()


def test_only_the_leader_requeues_and_a_new_leader_evaluates_all_waiting_pods() -> None:
    leadership = SettableLeadership(leads=False)
    ward = ward_of(leadership)
    ward.apply(refused("two", "uid-two"))
    ward.set_unhealthy("a", 4)
    wait("the change is taken from the queue", ward.requeuer._moved.empty)
    assert ward.requeued == []
    leadership.leads = True
    wait("requeued by the new leader", lambda: ward.requeued == ["uid-two"])
