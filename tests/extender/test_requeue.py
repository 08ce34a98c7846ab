"""Which pending pods are woken, when, and how often."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Change, Listed, PodGone, TopologySeen
from extender.kube.decode import seen
from extender.scheduling.requeue import LAG_SECONDS, Requeuer
from extender.server.service import Service, build_service
from extender.settings import RequeueSettings, Settings
from tests.extender.test_telemetry_decisions import looked, machine, reading
from tests.objects import node, pod
from tests.waiting import wait
from topology.gputopology import DeviceStatus, TopologyRecord

TWO = Demand(((2, False),), 2)


@dataclass
class Ward:
    """Two nodes of eight GPUs, all sick, and a waker whose calls are recorded."""

    service: Service
    requeuer: Requeuer
    requeued: list[str] = field(default_factory=list)
    works: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        with self.lock:
            self.requeued.append(uid)
        return self.works

    def apply(self, *changes: Change) -> None:
        self.service.store.apply(changes)

    def status(self, name: str, sick: int) -> None:
        unhealthy = tuple((n, "Xid 79") for n in range(sick))
        self.apply(TopologySeen(name, TopologyRecord(name, machine("hgx-h100", name), DeviceStatus(unhealthy=unhealthy))))


@pytest.fixture
def ward() -> Ward:
    service = build_service(Settings(requeue=RequeueSettings(max_per_second=50, pod_pause_seconds=0.2)))
    requeuer = service.requeuer
    ward = Ward(service, requeuer)
    service.writer.requeue = ward.requeue
    ward.apply(Listed("nodes", (seen("Node", node("a", 8)), seen("Node", node("b", 8)))), Listed("pods", ()), Listed("topologies", ()))
    ward.status("a", 8)
    ward.status("b", 8)
    return ward


def test_a_cure_wakes_whom_it_helps_and_nobody_else(ward: Ward) -> None:
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a", "b"])
    ward.requeuer.rejected("team", "elsewhere", "uid-elsewhere", TWO, ["b"])
    ward.requeuer.rejected("team", "eight", "uid-eight", Demand(((8, False),), 8), ["a", "b"])
    ward.status("a", 4)
    wait("woken", lambda: ward.requeued == ["uid-two"])
    time.sleep(0.5)
    assert ward.requeued == ["uid-two"], "once, and neither the pod of another pool nor the one that still does not fit"


def test_telemetry_wakes_too_and_oldest_first(ward: Ward) -> None:
    ward.apply(looked("a", 0, g1=reading("a", 1, 60)))
    ward.status("a", 0)
    for number in range(3):
        ward.requeuer.rejected("team", f"p{number}", f"uid-{number}", TWO, ["a"])
    ward.apply(looked("a", 15))
    wait("woken", lambda: len(ward.requeued) == 3)
    assert ward.requeued == ["uid-0", "uid-1", "uid-2"]


def test_what_kube_scheduler_hears_of_is_left_to_it(ward: Ward) -> None:
    ward.status("a", 0)
    ward.apply(seen("Pod", pod(8, name="other", node="a")))
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    time.sleep(LAG_SECONDS)
    ward.apply(PodGone("uid-other"))
    time.sleep(0.4)
    assert ward.requeued == []


def test_but_not_what_it_may_have_heard_of_before_it_asked(ward: Ward) -> None:
    """Its view is ahead of ours: the event that cures our rejection has woken nobody, for nobody was rejected yet."""
    ward.status("a", 0)
    ward.apply(seen("Pod", pod(8, name="other", node="a")))
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    ward.apply(PodGone("uid-other"))
    wait("woken", lambda: ward.requeued == ["uid-two"])


def test_a_bound_pod_and_one_that_found_a_node_are_not_woken(ward: Ward) -> None:
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    ward.requeuer.accepted("uid-two")
    ward.requeuer.rejected("team", "bound", "uid-bound", TWO, ["a"])
    ward.apply(seen("Pod", pod(2, name="bound", node="b")))
    ward.status("a", 0)
    time.sleep(0.4)
    assert ward.requeued == []


def test_each_futile_wake_doubles_the_pause(ward: Ward) -> None:
    started = time.monotonic()
    for _ in range(3):
        before = len(ward.requeued)
        ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
        ward.status("a", 8)
        ward.status("a", 0)
        wait("woken", lambda before=before: len(ward.requeued) > before)  # type: ignore[misc]
    assert time.monotonic() - started >= 0.2 + 0.4


def test_a_failing_patch_is_tried_again_a_few_times(ward: Ward) -> None:
    ward.works = False
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    ward.status("a", 0)
    wait("tried", lambda: len(ward.requeued) == 4, 30)
    time.sleep(0.5)
    assert len(ward.requeued) == 4


def test_without_anybody_to_wake_them_nothing_is_kept() -> None:
    service = build_service(Settings())
    service.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    assert not service.requeuer.waiting


def refused(name: str, uid: str, gpus: int = 2, message: str = "0/2 nodes are available: 2 too few healthy GPUs.") -> Change:
    """A pending pod as kube-scheduler leaves it when we have refused every node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    manifest = pod(gpus, name=name, status={"conditions": [condition]})
    return seen("Pod", {**manifest, "metadata": {**manifest["metadata"], "uid": uid}})


def test_who_waits_is_known_from_the_api_alone(ward: Ward) -> None:
    """The replica that answered the rejection may be dead: this one has never been asked."""
    ward.apply(refused("two", "uid-two"), refused("eight", "uid-eight", 8))
    ward.apply(refused("other", "uid-other", 2, "0/2 nodes are available: 2 Insufficient cpu."))
    ward.status("a", 4)
    wait("woken", lambda: ward.requeued == ["uid-two"])
    time.sleep(0.3)
    assert ward.requeued == ["uid-two"], "nor is a pod woken that something else keeps waiting"


def test_a_pod_that_is_bound_or_deleted_waits_no_more(ward: Ward) -> None:
    ward.apply(refused("two", "uid-two"), refused("three", "uid-three"))
    assert set(ward.requeuer.waiting) == {"uid-two", "uid-three"}
    ward.apply(PodGone("uid-two"), seen("Pod", pod(2, name="three", node="b")))
    assert set(ward.requeuer.waiting) == {"uid-three"} or ward.requeuer.waiting == ()


def test_only_the_leader_wakes_and_a_new_one_looks_at_all_that_wait(ward: Ward) -> None:
    leads = threading.Event()
    ward.service.writer.leading = leads.is_set
    ward.apply(refused("two", "uid-two"))
    ward.status("a", 4)
    time.sleep(0.6)
    assert ward.requeued == []
    leads.set()
    wait("woken by the new leader", lambda: ward.requeued == ["uid-two"])
