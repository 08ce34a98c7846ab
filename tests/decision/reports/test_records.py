"""The record of a decision: the leader writes it once, and all replicas make the same record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.decision.evaluate.verdict import Evidence, Prospect
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord, placement_record_of
from extender.decision.state.changes import Listed
from extender.kube.objects.decode import seen
from extender.kube.writing.events import PodEvents
from extender.server.service import Service, build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from tests.conftest import serve
from tests.objects import GPU, node, pod, topology
from tests.scheduling.cluster_writers import RecordingWriter, SettableLeadership, cluster_of
from topology.agent.publisher import ApiError

TWO_SETS = Evidence(expected_gbps=80.0, prospects=(Prospect((0, 1, 2, 3), 0.5, 80.0), Prospect((4, 5, 6, 7), 0.5, 80.0)))
MANY_SETS = Evidence(expected_gbps=30.0, prospects=tuple(Prospect((n, n + 1), 0.125, 30.0) for n in range(8)))
SINGLE = Evidence(prospects=(Prospect((3,), 1.0, None),))
UNKNOWN = Evidence(notes=("topology unknown: no GpuTopology, using labels and counts",))

SENTENCES = {
    "two sets": (TWO_SETS, "placed on gpu-7: GPUs {0,1,2,3} 50%, {4,5,6,7} 50%, 80.0 GB/s expected (decision "),
    "many": (MANY_SETS, "placed on gpu-7: GPUs {0,1} 12%, {1,2} 12%, {2,3} 12%, {3,4} 12% and 4 more (50%), 30.0 GB/s expected (decision "),
    "one GPU": (SINGLE, "placed on gpu-7: GPUs {3} 100%, one GPU (decision "),
    "unknown": (UNKNOWN, "placed on gpu-7: topology unknown: no GpuTopology, using labels and counts (decision "),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_record_as_sentence_names_the_sets_and_the_bandwidth(case: str) -> None:
    evidence, text = SENTENCES[case]
    assert placement_record_of("uid", "gpu-7", evidence).as_sentence().startswith(text)


def test_record_as_json_has_the_sets_and_the_bandwidth() -> None:
    data = json.loads(placement_record_of("uid", "gpu-7", MANY_SETS).as_json())
    assert (data["node"], data["expectedGbps"], data["worstGbps"], len(data["predicted"])) == ("gpu-7", 30.0, 30.0, 4)
    assert data["predicted"][0] == {"gpus": [0, 1], "probability": 0.125, "gbps": 30.0}


def test_id_of_a_record_depends_on_the_decision_only() -> None:
    same = placement_record_of("uid", "gpu-7", TWO_SETS).id
    assert placement_record_of("uid", "gpu-7", TWO_SETS).id == same
    others = {
        placement_record_of("other", "gpu-7", TWO_SETS).id,
        placement_record_of("uid", "gpu-8", TWO_SETS).id,
        placement_record_of("uid", "gpu-7", MANY_SETS).id,
    }
    assert len({same, *others}) == 4


def replica(leads: bool) -> tuple[Service, list[tuple[BoundPod, PlacementRecord]]]:
    writer = RecordingWriter()
    service = build_service(Settings(server=Server(log_level="error")), cluster_of(writer, SettableLeadership(leads)))
    changes = (Listed("nodes", (seen("Node", node("a", 8)),)), Listed("pods", (seen("Pod", pod(4)),)))
    service.store.apply((*changes, Listed("topologies", (seen("GpuTopology", topology("a", "dgx-1v")),))))
    return service, writer.placements


def test_leader_writes_the_record_of_a_decision_of_the_other_replica() -> None:
    """The record is the same, including its id."""
    decider, nothing = replica(leads=False)
    leader, told = replica(leads=True)
    for served in serve(decider, simulated(GPU)):
        served.client.post("/scheduler/filter", json={"Pod": pod(4), "NodeNames": ["a"]})
        (decision,) = served.client.get("/v1/decisions").json()["decisions"]
        bound = seen("Pod", pod(4, node="a"))
        decider.store.apply([bound])
        leader.store.apply([bound])
    assert nothing == []
    ((pod_bound, record),) = told
    assert (pod_bound.key, record.node, record.id) == ("uid-llm", "a", decision["id"])


def test_no_event_if_the_binding_has_the_record_or_the_pod_was_never_seen_pending() -> None:
    leader, told = replica(leads=True)
    carried: dict[str, Any] = pod(4, node="a", annotations={"fabricwise.dev/decision": "{}"})
    leader.store.apply([seen("Pod", carried), seen("Pod", pod(2, name="was-there-before", node="a"))])
    assert told == []


class Events:
    """Keeps the posted events; refuses a second event of the same name."""

    def __init__(self) -> None:
        self.posted: dict[str, dict[str, Any]] = {}

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        name = manifest["metadata"]["name"]
        if name in self.posted:
            raise ApiError(409, "is there")
        self.posted[name] = manifest
        return manifest


def test_event_of_two_replicas_that_both_act_as_leader_is_posted_once() -> None:
    api = Events()
    bound = BoundPod("uid-12345678", "team", "llm", "a", None, "")  # type: ignore[arg-type]
    for _ in range(2):
        events = PodEvents(api)  # type: ignore[arg-type]
        events.placed(bound, placement_record_of(bound.key, "a", TWO_SETS))
        events._posting.shutdown(wait=True)
    ((name, event),) = api.posted.items()
    assert name == "llm.uid-1234.gpuspredicted"
    assert (event["reason"], event["type"]) == ("GpusPredicted", "Normal")
