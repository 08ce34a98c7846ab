"""GET and POST /v1/why over a real server: typed answers, bounded bodies, clear errors, and nothing that changes the state."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest

from extender.decision.state.changes import PodSeen
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from extender.web.questions.why_routes import MOST_NAME
from tests.conftest import Served, serve
from tests.objects import container, pod, pod_struct

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
