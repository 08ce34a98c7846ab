"""Events for pods that were bound while no replica held the Lease: posted once, later."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Known
from extender.decision.state.changes import Change, ClockTicked, Listed, WatchLost, WatchRestored
from extender.kube.objects.decode import gone, seen
from extender.kube.writing.events import PodEvents
from extender.scheduling.owed_events import MOST_OWED, OWED_SECONDS
from extender.server.service import Service, build_service
from extender.settings import Server, Settings
from tests.decision.reports.test_records import Events
from tests.node_state.allocation_objects import running
from tests.objects import node, pod
from tests.scheduling.cluster_writers import RecordingWriter, SettableLeadership, cluster_of
from topology.agent.publisher import ApiError
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of


class PostingWriter(RecordingWriter):
    """Posts events as on a cluster, with pauses that do not wait; records all else."""

    def __init__(self, api: Any) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.events = PodEvents(api, sleep=self.pauses.append)

    def post_placement(self, pod: BoundPod, record: PlacementRecord) -> None:
        self.events.placed(pod, record)

    def post_floor_missed(self, known: Known, floor_gbps: float) -> None:
        self.events.floor_missed(known, floor_gbps)


class Replica:
    """One extender whose leadership a test decides, with an API server for its events."""

    def __init__(self, api: Any, leads: bool = False, scheduler_names: tuple[str, ...] = ()) -> None:
        settings = Settings(server=Server(log_level="error"), scheduler_names=scheduler_names)
        self.leadership, self.writer = SettableLeadership(leads), PostingWriter(api)
        self.service: Service = build_service(settings, cluster_of(self.writer, self.leadership))

    def see(self, *changes: Change) -> None:
        """Fold changes of the cluster's state."""
        self.service.store.apply(changes)

    def list_all(self, *pods: dict[str, Any], platform: str = "t4", gpus: int = 4, status: DeviceStatus | None = None) -> None:
        """The first lists: one node with its topology, and some pods."""
        self.see(Listed("nodes", (seen("Node", node("n", gpus)),)))
        record = encode(TopologyRecord("n", machine_of(platform, "u"), status))
        self.see(Listed("topologies", (seen("GpuTopology", record),)))
        self.see(Listed("pods", tuple(seen("Pod", manifest) for manifest in pods)))

    def lead(self) -> None:
        """It begins to lead, and the clock ticks."""
        self.leadership.leads = True
        self.see(ClockTicked(time.time(), time.monotonic()))

    def finish(self) -> None:
        """Wait until its events are posted."""
        self.writer.events._posting.shutdown(wait=True)


def bound_at(manifest: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The pod with the time of its binding."""
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp}
    status = manifest.get("status", {})
    return {**manifest, "status": {**status, "conditions": [*status.get("conditions", []), condition]}}


def messages(api: Events) -> dict[str, str]:
    """Reason and pod -> message of what was posted."""
    return {f"{event['reason']} {event['involvedObject']['name']}": event["message"] for event in api.posted.values()}


def test_prediction_of_a_pod_bound_while_no_replica_leads_is_posted_by_the_next_leader() -> None:
    api = Events()
    replica = Replica(api)
    replica.list_all(pod(2))
    replica.see(seen("Pod", pod(2, node="n")))
    assert api.posted == {}
    replica.lead()
    replica.finish()
    assert list(messages(api)) == ["GpusPredicted llm"]
    assert "{0,1} 50%, {2,3} 50%" in messages(api)["GpusPredicted llm"]


def test_prediction_is_of_the_state_before_the_pod_took_its_gpus() -> None:
    """Between the binding and the lead another pod came and the agent has seen both."""
    api = Events()
    replica = Replica(api)
    replica.list_all(pod(2))
    replica.see(seen("Pod", pod(2, node="n")), seen("Pod", running("later", (0, 1))), seen("Pod", running("llm", (2, 3))))
    replica.lead()
    replica.finish()
    assert "{0,1} 50%, {2,3} 50%" in messages(api)["GpusPredicted llm"]


def test_event_is_posted_once_by_two_replicas_that_lead_one_after_the_other() -> None:
    api = Events()
    for _ in range(2):
        replica = Replica(api)
        replica.list_all(pod(2))
        replica.see(seen("Pod", pod(2, node="n")))
        replica.lead()
        replica.lead()
        replica.finish()
    assert list(messages(api)) == ["GpusPredicted llm"]


def test_missed_floor_that_became_known_while_no_replica_leads_is_posted_by_the_next_leader() -> None:
    api = Events()
    replica = Replica(api)
    demanding = {"fabricwise.dev/min-busbw": "50"}
    replica.list_all(pod(2, name="slow", annotations=demanding))
    got = running("slow", (0, 2))
    got["metadata"]["annotations"] = demanding
    replica.see(seen("Pod", got))
    assert api.posted == {}
    replica.lead()
    replica.finish()
    assert messages(api)["BandwidthBelowFloor slow"].startswith("asked for 50 GB/s all-reduce bandwidth, got GPUs 0,2 of n")


def test_prediction_of_a_pod_bound_during_a_restart_is_made_from_the_state_without_it() -> None:
    """The pod and one that was bound after it hold GPUs already; the one bound before it held its own."""
    api, now = Events(), time.time()
    earlier, asked, later = (
        bound_at(running(name, (place,)), now - age) for name, place, age in (("a", 0, 90), ("b", 1, 60), ("c", 2, 30))
    )
    replica = Replica(api)
    replica.list_all(earlier, asked, later)
    replica.lead()
    replica.finish()
    found = messages(api)
    assert set(found) == {"GpusPredicted a", "GpusPredicted b", "GpusPredicted c"}
    assert "{1} 33%, {2} 33%, {3} 33%" in found["GpusPredicted b"]
    assert "reconstructed after the binding: pods that ended in between are not known" in found["GpusPredicted b"]


OLD = OWED_SECONDS + 60

# name -> (the pod as it is first listed, seconds since it was bound or None where that is unknown, scheduler names of the settings)
NOT_OWED: dict[str, tuple[dict[str, Any], float | None, tuple[str, ...]]] = {
    "bound long ago": (pod(1, node="n"), OLD, ()),
    "bound at an unknown time": (pod(1, node="n"), None, ()),
    "the binding carries the record": (pod(1, node="n", annotations={"fabricwise.dev/decision": "{}"}), 5, ()),
    "of another scheduler": (pod(1, node="n"), 5, ("gpu-scheduler",)),
    "waits still": (pod(1), None, ()),
}


@pytest.mark.parametrize("case", NOT_OWED)
def test_no_event_is_owed_after_a_restart(case: str) -> None:
    manifest, age, scheduler_names = NOT_OWED[case]
    api = Events()
    replica = Replica(api, scheduler_names=scheduler_names)
    replica.list_all(manifest if age is None else bound_at(manifest, time.time() - age))
    replica.lead()
    replica.finish()
    assert api.posted == {}


def test_missed_floor_of_a_pod_bound_long_ago_is_no_news_after_a_restart() -> None:
    api = Events()
    old = bound_at(running("slow", (0, 2)), time.time() - OLD)
    old["metadata"]["annotations"] = {"fabricwise.dev/min-busbw": "50"}
    replica = Replica(api, leads=True)
    replica.list_all(old)
    replica.finish()
    assert api.posted == {}


def test_pod_bound_while_the_watch_was_broken_gets_its_event() -> None:
    api = Events()
    replica = Replica(api, leads=True)
    replica.list_all()
    unseen = bound_at(pod(1, node="n"), time.time())
    replica.see(WatchLost("pods", time.monotonic()))
    replica.see(Listed("pods", (seen("Pod", unseen),)))
    replica.see(WatchRestored("pods"))
    replica.finish()
    assert list(messages(api)) == ["GpusPredicted llm"]


def test_pod_that_is_gone_when_a_replica_leads_gets_no_event() -> None:
    api = Events()
    replica = Replica(api)
    replica.list_all(pod(1))
    replica.see(seen("Pod", pod(1, node="n")))
    replica.see(gone("Pod", pod(1, node="n")))
    replica.lead()
    replica.finish()
    assert api.posted == {}


def test_owed_events_are_bounded() -> None:
    api = Events()
    replica = Replica(api)
    many = [pod(1, name=f"p{number}") for number in range(MOST_OWED + 50)]
    replica.list_all(*many)
    replica.see(*(seen("Pod", {**manifest, "spec": {**manifest["spec"], "nodeName": "n"}}) for manifest in many))
    replica.lead()
    replica.finish()
    assert len(api.posted) == MOST_OWED


class Failing(Events):
    """An API server that fails some times before it works."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = [*statuses]

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.statuses:
            raise ApiError(self.statuses.pop(0), "no")
        return super().create(path, manifest)


@pytest.mark.parametrize(("statuses", "posted"), [((), 1), ((0,), 1), ((503, 429), 1), ((500, 500, 500), 0), ((403,), 0)])
def test_event_is_tried_again_where_the_api_server_could_not_take_it(statuses: tuple[int, ...], posted: int) -> None:
    api = Failing(*statuses)
    replica = Replica(api, leads=True)
    replica.list_all(pod(1))
    replica.see(seen("Pod", pod(1, node="n")))
    replica.finish()
    assert len(api.posted) == posted


def test_event_of_a_pod_with_the_longest_name_has_a_name_the_api_server_accepts() -> None:
    api = Events()
    replica = Replica(api, leads=True)
    name = "x." * 126 + "x"
    waiting, bound = pod(1, name=name), pod(1, name=name, node="n")
    for manifest in (waiting, bound):
        manifest["metadata"]["uid"] = "0b7ad5a1-52a8-4d2a-9f2c-1a1f6d5c9e33"
    replica.list_all(waiting)
    replica.see(seen("Pod", bound))
    replica.finish()
    ((event_name, event),) = api.posted.items()
    assert len(event_name) <= 253
    assert ".." not in event_name
    assert event["involvedObject"]["name"] == name


def test_agents_older_status_does_not_disturb_a_reconstructed_prediction() -> None:
    """The status names the pod itself and one that came later: both count as not there yet."""
    api, now = Events(), time.time()
    status = DeviceStatus(
        (1,), (Allocation(0, None, "team", "b"), Allocation(2, None, "team", "c"), Allocation(3, None, "team", "c")), (), now
    )
    pods = [bound_at(pod(1, name="b", node="n"), now - 60), bound_at(pod(2, name="c", node="n"), now - 30)]
    replica = Replica(api)
    replica.list_all(*pods, status=status)
    replica.lead()
    replica.finish()
    assert "{0} 25%, {1} 25%, {2} 25%, {3} 25%" in messages(api)["GpusPredicted b"]
