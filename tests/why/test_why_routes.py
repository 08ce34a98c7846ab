"""GET and POST /v1/why over a real server: typed answers, bounded bodies, clear errors, and nothing that changes the state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from extender.cli.reading import kube_objects
from extender.decision.state.changes import PodSeen
from extender.decision.why.helping.eviction_remedies import NOT_CHECKED
from extender.kube.disruptions import KubeDisruptions
from extender.scheduling.ports import Cluster
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from extender.web.questions.why_routes import MOST_NAME
from tests.conftest import Served, serve
from tests.kube.api_server import BUDGETS, ApiServer, api_server
from tests.objects import GPU, container, pod, pod_struct
from tests.slots.moved_clusters import budget, labelled, owned

WAITS = {
    "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/14 nodes are available: 14 Insufficient cpu."}]}
}


def post(served: Served, manifest: Any, **more: Any) -> Any:
    return served.client.post("/v1/why", json={"pod": manifest, **more})


def test_pending_pod_is_answered_by_its_manifest(served: Served) -> None:
    answer = post(served, pod(8, annotations={"fabricwise.dev/min-busbw": "900"})).json()
    assert answer["state"] == "pending"
    assert answer["reason"] == "bandwidth floor out of reach"
    assert answer["by_extender"] is True
    assert answer["remedies"][0]["annotations"] == {"fabricwise.dev/min-busbw": "830.87"}


def test_manifest_without_uid_is_new(served: Served) -> None:
    manifest = {"metadata": {"name": "new"}, "spec": {"containers": [container(2)]}}
    assert post(served, manifest).json()["state"] == "new"


def test_events_in_the_body_say_when_kube_scheduler_tried(served: Served) -> None:
    event = {
        "reason": "FailedScheduling",
        "message": "0/14 nodes are available: 14 too few free GPUs.",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    answer = post(served, pod(2), events=[event, {"reason": 5}]).json()
    assert answer["reason"] == "it fits now"
    assert answer["reported"]["age_seconds"] > 0


def test_pod_that_the_extender_knows_is_answered_by_its_name_and_by_its_uid(served: Served) -> None:
    served.service.store.apply([PodSeen(pod_struct(pod(2, name="waits") | WAITS))])
    by_name, by_uid = (served.client.get("/v1/why", params={"pod": name}).json() for name in ("team/waits", "uid-waits"))
    assert by_name["reason"] == by_uid["reason"] == "Insufficient cpu", "kube-scheduler's message fills in"
    assert by_name["pod"] == "team/waits"
    assert any("send its manifest" in check for check in by_name["not_checked"])


def test_bound_pod_is_answered_with_its_place(served: Served) -> None:
    node = "hgx-h100-0"
    served.service.store.apply([PodSeen(pod_struct(pod(2, name="runs", node=node)))])
    answer = served.client.get("/v1/why", params={"pod": "team/runs"}).json()
    assert answer["state"] == "running"
    assert answer["placement"]["node"] == node


def test_prediction_of_the_last_decision_is_shown_for_a_bound_pod(served: Served) -> None:
    manifest, name = pod(2, name="decided"), "hgx-h100-0"
    served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": [name]})
    served.service.store.apply([PodSeen(pod_struct(pod(2, name="decided", node=name)))])
    answer = served.client.get("/v1/why", params={"pod": "team/decided"}).json()
    assert answer["placement"]["predicted_gbps"] == 360


def test_unknown_pod_is_answered_with_similar_names(served: Served) -> None:
    served.service.store.apply([PodSeen(pod_struct(pod(2, name="waits") | WAITS))])
    response = served.client.get("/v1/why", params={"pod": "team/wait"})
    assert response.status_code == 404
    assert "did you mean team/waits?" in response.json()["error"]


def test_question_changes_nothing(served: Served) -> None:
    before = served.service.store.snapshot
    decisions = len(list(served.service.scheduling.log.recent()))
    post(served, pod(2))
    assert served.service.store.snapshot is before
    assert len(list(served.service.scheduling.log.recent())) == decisions
    assert not served.service.scheduling.moment().assumed_pods.by_pod


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "request body"),
        (b"{", "request body"),
        (b"[]", "Expected `object`"),
        (b'{"pod": 1}', "$.pod"),
        (b'{"pod": {}}', "not a Pod manifest"),
        (b'{"pod": {"metadata": {}, "spec": {"containers": 3}}}', "not a Pod manifest"),
        (b'{"pod": {"metadata": {}, "spec": {}}, "events": "x"}', "$.events"),
        (b'{"pod": ' + b"[" * 100_000, "request body"),
        (b"\xff", "request body"),
    ],
)
def test_bad_body_is_a_clear_error(served: Served, body: bytes, words: str) -> None:
    response = served.client.post("/v1/why", content=body)
    assert response.status_code == 400
    assert words in response.json()["error"]


def test_body_of_more_than_three_mebibytes_is_refused(served: Served) -> None:
    response = served.client.post("/v1/why", content=b" " * (3 << 20) + b"{}")
    assert response.status_code == 400
    assert "larger than the limit" in response.json()["error"]


def test_more_events_than_the_bound_are_refused(served: Served) -> None:
    response = post(served, pod(2), events=[{}] * 1_001)
    assert response.status_code == 400


def test_name_that_is_too_long_is_refused(served: Served) -> None:
    response = served.client.get("/v1/why", params={"pod": "x" * (MOST_NAME + 1)})
    assert response.status_code == 422
    assert "pod" in response.json()["error"]


def test_state_that_is_not_listed_yet_gives_no_answer() -> None:
    service, cluster = build_service(Settings(server=Server(log_level="error"))), simulated("nvidia.com/gpu")
    with contextmanager(serve)(service, cluster) as unlisted:
        responses = [unlisted.client.get("/v1/why", params={"pod": "team/llm"}), post(unlisted, pod(2))]
    assert [response.status_code for response in responses] == [503, 503]
    assert "not yet listed" in responses[0].json()["error"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        server.lists[BUDGETS] = []
        yield server


@pytest.fixture
def watched(api: ApiServer) -> Iterator[Served]:
    """A service whose state has two full nodes, whose API server is `api`; a pod of eight GPUs fits after the eviction of x or of y."""
    settings, machines = Settings(server=Server(log_level="error")), simulated(GPU, {"hgx-h100": 2})
    reader = KubeDisruptions(kube_objects(str(api.kubeconfig))[0])
    service = build_service(settings, Cluster("some cluster", disruptions=reader))
    service.store.apply(machines.listing())
    for name, node, gpus in (("x", "hgx-h100-0", 4), ("y", "hgx-h100-1", 6)):
        manifest = pod(gpus, name=name)
        machines.bind(manifest, node, service.store)
        api.add(*labelled(owned([{**manifest, "spec": {**manifest["spec"], "nodeName": node}}]), JOB, name))
    yield from serve(service, machines)


JOB = {"jobset.sigs.k8s.io/jobset-name": "train"}


def eviction(answer: Any) -> Any:
    return next(each for each in answer["remedies"] if each["kind"] == "evict")


def test_extender_looks_up_the_pods_that_a_remedy_would_evict_and_the_groups_that_restart_with_them(
    watched: Served, api: ApiServer
) -> None:
    answer = post(watched, pod(8, name="waits")).json()
    assert eviction(answer)["evict"] == ["team/x"]
    assert eviction(answer)["restarts"] == [
        {"kind": "JobSet", "name": "team/train", "pods": 2, "gpus": 10, "unless": "the backoffLimit of the pod's Job covers the lost pod"}
    ]
    assert (answer["unread"], NOT_CHECKED in answer["not_checked"], api.methods) == ([], False, {"GET"})
    assert len([path for _, path, _ in api.asked if path.endswith("/pods")]) == 3, "two pods, and the pods of one group"


def test_extender_leaves_out_an_eviction_that_a_budget_forbids(watched: Served, api: ApiServer) -> None:
    api.lists[BUDGETS] = [budget("none", 0, ["x"])]
    answer = post(watched, pod(8, name="waits")).json()
    assert eviction(answer)["evict"] == ["team/y"]
    assert "evicting team/x would make it fit, but the API server refuses that now: budget team/none allows no disruption now" in [
        each["text"] for each in answer["remedies"]
    ]


def test_extender_that_may_not_list_budgets_names_the_verb_and_says_what_is_not_checked(watched: Served, api: ApiServer) -> None:
    api.refused[BUDGETS] = 403
    answer = post(watched, pod(8, name="waits")).json()
    assert eviction(answer)["evict"] == ["team/x"]
    assert NOT_CHECKED in answer["not_checked"]
    assert "kubectl auth can-i list poddisruptionbudgets.policy" in answer["unread"][0]


def test_extender_reads_nothing_for_a_pod_that_no_eviction_helps(watched: Served, api: ApiServer) -> None:
    post(watched, pod(2, name="waits"))
    assert api.asked == []


def test_extender_without_an_api_server_says_what_is_not_checked() -> None:
    service, machines = build_service(Settings(server=Server(log_level="error"))), simulated(GPU, {"hgx-h100": 1})
    service.store.apply(machines.listing())
    machines.bind(pod(4, name="x"), "hgx-h100-0", service.store)
    with contextmanager(serve)(service, machines) as alone:
        answer = post(alone, pod(8, name="waits")).json()
    assert eviction(answer)["evict"] == ["team/x"]
    assert NOT_CHECKED in answer["not_checked"]
    assert "watches no API server" in answer["unread"][0]
