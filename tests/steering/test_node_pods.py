"""What a steerer keeps of the pods of its node."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import urllib3

from extender.kube.small_connection import Connection
from extender.steering.answers import node_pods
from extender.steering.answers.node_pods import MOST_PODS, NodePods, kept_of
from extender.steering.choice.waiting_pods import DECISION, node_pod
from tests.objects import GPU, pod
from tests.steering.connections.fakes import wait_for
from topology.devices.size_mix import MOST_DECISION_CHARACTERS

DECIDED = '{"containers": [[4, 5]], "sizeMix": {"2": 1}}'


def test_pod_is_read_from_what_is_kept_as_from_the_whole_manifest() -> None:
    manifest = pod(2, node="a", annotations={DECISION: DECIDED, "other": "x"}, spec={"priority": 1_000})
    found = node_pod(kept_of(manifest), GPU)
    assert found == node_pod(manifest, GPU)
    assert found is not None
    assert (found.decided, found.size_mix) == (((4, 5),), ((1, 0.0), (2, 1.0), (4, 0.0), (8, 0.0)))


@pytest.mark.parametrize(
    "annotations",
    [{"kubectl.kubernetes.io/last-applied-configuration": "x" * 200_000}, {DECISION: " " * (MOST_DECISION_CHARACTERS + 1)}],
    ids=["of another program", "decision that is too long"],
)
def test_large_annotation_is_not_kept(annotations: dict[str, str]) -> None:
    assert len(msgspec.json.encode(kept_of(pod(2, node="a", annotations=annotations)))) < 2_000


class Api:
    """The pool of connections to an API server: lists in pages, then a watch that goes on."""

    def __init__(self, pods: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        self.pods, self.events = pods, events
        self.queries: list[dict[str, str]] = []
        self.go_on = threading.Event()
        self.is_over = False

    def request(self, method: str, url: str, **_: Any) -> urllib3.BaseHTTPResponse:
        query = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
        self.queries.append(query)
        if self.is_over:
            raise urllib3.exceptions.HTTPError("the test is over")
        if "watch" in query:
            self.go_on.wait()
            body = b"".join(msgspec.json.encode(event) + b"\n" for event in self.events)
            return urllib3.HTTPResponse(io.BytesIO(body), status=200, preload_content=False)
        start, limit = int(query.get("continue", 0)), int(query["limit"])
        end = start + limit
        meta = {"resourceVersion": "7", **({"continue": str(end)} if end < len(self.pods) else {})}
        page = {"metadata": meta, "items": self.pods[start:end]}
        return urllib3.HTTPResponse(io.BytesIO(msgspec.json.encode(page)), status=200, preload_content=False)


def followed(api: Any) -> NodePods:
    made = NodePods(lambda: Connection("http://api", api, dict), "a")
    made.start()
    wait_for("the pods are listed", lambda: made.are_followed)
    return made


def names(pods: NodePods) -> list[str]:
    return sorted(found.name for found in pods.asking_for(GPU))


ADMITTED = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}


@pytest.fixture
def over() -> Iterator[list[Api]]:
    """API servers that are away after the test."""
    made: list[Api] = []
    yield made
    for api in made:
        api.is_over = True
        api.go_on.set()


@pytest.mark.parametrize("status", [{"phase": "Succeeded"}, {"phase": "Failed"}, ADMITTED], ids=["succeeded", "failed", "admitted"])
def test_pod_that_waits_is_known_beside_more_pods_than_are_kept_that_do_not(status: dict[str, str], over: list[Api]) -> None:
    others = [pod(1, name=f"old-{number}", node="a", status=status) for number in range(MOST_PODS + 100)]
    api = Api([*others, pod(2, name="waits", node="a")], [{"type": "ADDED", "object": pod(2, name="later", node="a")}])
    over.append(api)
    found = followed(api)
    assert names(found) == ["waits"]
    api.go_on.set()
    wait_for("the later pod is known", lambda: names(found) == ["later", "waits"])


def test_pods_that_have_ended_are_not_asked_for(over: list[Api]) -> None:
    api = Api([], [])
    over.append(api)
    followed(api)
    assert {query["fieldSelector"] for query in api.queries} == {"spec.nodeName=a,status.phase!=Succeeded,status.phase!=Failed"}


def test_pod_that_is_admitted_is_not_kept(over: list[Api]) -> None:
    api = Api([pod(2, name="waits", node="a")], [{"type": "MODIFIED", "object": pod(2, name="waits", node="a", status=ADMITTED)}])
    over.append(api)
    found = followed(api)
    assert names(found) == ["waits"]
    api.pods = []
    api.go_on.set()
    wait_for("it waits no more", lambda: names(found) == [])


def test_watch_that_ends_at_once_is_not_begun_again_at_once(over: list[Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_pods, "_SHORT_WATCH_SECONDS", 1_000.0)
    api = Api([], [])
    over.append(api)
    api.go_on.set()
    followed(api)
    wait_for("it is watched", lambda: len(api.queries) >= 2)
    threading.Event().wait(0.3)
    assert len(api.queries) == 2
