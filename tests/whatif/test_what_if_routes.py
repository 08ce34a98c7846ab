"""POST /v1/what-if: typed bodies and answers, errors, bounds; the state of the extender stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.decision.state.changes import PodSeen
from extender.decision.whatif.what_if_answer import WhatIfAnswer
from extender.kube.api_client import api_client
from extender.kube.api_requests import ApiRequests
from extender.kube.pending_pods import KubePendingPods
from extender.scheduling.ports import Cluster
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.settings_overrides import known_keys
from extender.sources.simulated import simulated
from tests.conftest import Served, serve
from tests.kube.api_server import ApiServer, api_server
from tests.objects import pod, pod_struct
from tests.whatif.questions import Cluster as Manifests
from tests.whatif.questions import added, nodes, placements, waiting


@pytest.fixture
def unlisted() -> Iterator[Served]:
    """An extender that has not listed its cluster."""
    yield from serve(build_service(Settings(server=Server(log_level="error"))), simulated("nvidia.com/gpu"))


def asked(served: Served, body: dict[str, Any]) -> WhatIfAnswer:
    response = served.client.post("/v1/what-if", json=body)
    assert response.status_code == 200, response.text
    return msgspec.json.decode(response.content, type=WhatIfAnswer)


def test_pending_pods_and_added_pods_are_placed_and_nothing_is_changed(served: Served) -> None:
    served.service.store.apply([PodSeen(pod_struct(waiting("w", 8)))])
    before = served.service.store.snapshot
    answer = asked(served, {"add": [{"gpus": 4, "count": 2}, {"pod": pod(2, name="p")}]})
    assert [(each.pod, each.added) for each in answer.pods] == [
        ("team/w", False),
        ("default/4-gpu-0", True),
        ("default/4-gpu-1", True),
        ("team/p", True),
    ]
    assert all(node is not None for node in nodes(answer).values())
    assert served.service.store.snapshot is before
    assert list(served.service.scheduling.log.recent()) == []


def test_every_hypothesis_of_a_body_is_applied(served: Served) -> None:
    served.service.store.apply([PodSeen(pod_struct(pod(8, name="old", node="hgx-b200-0"))), PodSeen(pod_struct(waiting("w", 8)))])
    body = {
        "add": [{"gpus": 8}],
        "remove": [{"name": "old", "namespace": "team"}],
        "cordon": ["dgx-a100-0"],
        "lose": [{"node": "hgx-h100-0", "gpu": 1}],
        "nodes": [{"platform": "hgx-h200", "count": 1}],
        "set": {"scoring.weights.fragmentation": 0},
    }
    assert nodes(asked(served, {})) == {"w": "hgx-h100-0"}
    assert nodes(asked(served, body)) == {"w": "hgx-b200-0", "8-gpu": "hgx-h200-new-0"}


def test_answer_says_what_a_running_extender_does_not_know_of_pods(served: Served) -> None:
    texts = asked(served, {}).not_checked
    assert any(
        text.startswith("node selectors, tolerations, affinity and volumes of pending pods: fabricwise watches no") for text in texts
    )
    assert any(text.startswith("CPU and memory of running pods without GPUs") for text in texts)


@pytest.fixture
def with_api_server(tmp_path: Path) -> Iterator[tuple[Served, ApiServer]]:
    """An extender of the simulated cluster that reads pending pods from an API server."""
    with api_server(tmp_path) as api:
        requests = ApiRequests(api_client(str(api.kubeconfig)), 5.0)
        settings, cluster = Settings(server=Server(log_level="error")), simulated("nvidia.com/gpu")
        service = build_service(settings, Cluster(pending=KubePendingPods(requests)))
        service.store.apply(cluster.listing())
        for served in serve(service, cluster):
            yield served, api


def test_pending_pods_are_placed_by_what_the_api_server_has_of_them(with_api_server: tuple[Served, ApiServer]) -> None:
    served, api = with_api_server
    picky = waiting("w", 2, spec={"nodeSelector": {"kubernetes.io/hostname": "t4-1"}})
    api.add(picky, {**waiting("broken", 1), "spec": 7})
    served.service.store.apply([PodSeen(pod_struct(picky))])
    answer = asked(served, {})
    assert nodes(answer) == {"w": "t4-1"}
    assert not any(text.startswith("node selectors") for text in answer.not_checked)
    assert [query["fieldSelector"] for _, path, query in api.asked if path == "/api/v1/pods"] == ["spec.nodeName=,status.phase=Pending"]


def test_right_to_list_pods_that_is_missing_is_named(with_api_server: tuple[Served, ApiServer]) -> None:
    served, api = with_api_server
    api.refused["/api/v1/pods"] = 403
    assert any("see kubectl auth can-i list pods --all-namespaces" in text for text in asked(served, {}).not_checked)


ERRORS: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "request body: Input data was truncated"),
    "a list": ("[]", "request body: Expected `object`, got `array`"),
    "an unknown field": ('{"ad": []}', "contains unknown field `ad`"),
    "an unknown field within": ('{"lose": [{"node": "a", "gpu": 1, "x": 2}]}', "contains unknown field `x` - at `$.lose[0]`"),
    "too many GPUs": ('{"add": [{"gpus": 17}]}', "Expected `int` <= 16 - at `$.add[0].gpus`"),
    "a million pods": ('{"add": [{"gpus": 1, "count": 1000000}]}', "Expected `int` <= 10000 - at `$.add[0].count`"),
    "two thousand and one pods": ('{"add": [{"gpus": 1, "count": 2001}]}', "2001 pods to add: a sequence has at most 2000; add fewer"),
    "a count of true": ('{"add": [{"gpus": 1, "count": true}]}', "Expected `int`, got `bool`"),
    "neither GPUs nor a manifest": ('{"add": [{}]}', "an entry of `add` has a number of GPUs (gpus) or a manifest (pod)"),
    "a manifest without a pod": ('{"add": [{"pod": {"kind": "Service"}}]}', "manifest to add: expected a Pod, got a Service"),
    "a malformed manifest": (
        '{"add": [{"pod": {"metadata": {"name": 1}, "spec": {"containers": 3}}}]}',
        "manifest to add: pod/1 is not a Pod manifest",
    ),
    "a hundred and one entries": (json.dumps({"cordon": ["a"] * 101}), "Expected `array` of length <= 100 - at `$.cordon`"),
    "a node that does not exist": ('{"cordon": ["gpu-1"]}', "the cluster has no node 'gpu-1'"),
    "a name without end": (json.dumps({"cordon": ["x" * 300]}), "Expected `str` of length <= 253"),
    "a setting that does not exist": ('{"set": {"scoring.nothing": 1}}', "request body: set: no setting 'scoring.nothing'"),
    "a setting of another group": ('{"set": {"server.tls.cert_file": "x"}}', "has no effect on where a pod goes"),
    "nested without end": ('{"set": {"scoring.weights.link": ' + "[" * 100_000, "request body: "),
    "no text": ("\udcff", "request body: "),
}


@pytest.mark.parametrize(("body", "error"), ERRORS.values(), ids=ERRORS)
def test_body_that_cannot_be_used_is_status_400_and_says_why(body: str, error: str, served: Served) -> None:
    response = served.client.post("/v1/what-if", content=body.encode(errors="surrogateescape"))
    assert response.status_code == 400, response.text
    assert error in response.json()["error"]


def test_body_beyond_the_bound_is_refused(served: Served) -> None:
    response = served.client.post("/v1/what-if", content=b" " * (9 << 20))
    assert response.status_code == 400
    assert "larger than the limit" in response.json()["error"]


def test_cluster_that_is_not_listed_yet_is_status_503(unlisted: Served) -> None:
    response = unlisted.client.post("/v1/what-if", json={})
    assert response.status_code == 503
    assert response.json()["error"].startswith("not yet listed: nodes, pods, topologies; try again")


def test_types_of_body_and_answer_are_in_the_openapi_document(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/what-if"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/WhatIfBody"}
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/WhatIfAnswer"}
    assert {"400", "503"} <= set(operation["responses"])
    assert set(document["components"]["schemas"]["WhatIfBody"]["properties"]) == {"add", "remove", "cordon", "lose", "nodes", "set"}


def test_command_and_route_answer_alike(served: Served) -> None:
    cluster = Manifests(list(served.cluster.manifests()))
    by_route = asked(served, {"add": [{"pod": pod(4, name="new"), "count": 5}]})
    by_core = cluster.answer(added(4, 5))
    assert placements(by_route) == placements(by_core)
    assert by_route.capacity_after == by_core.capacity_after


@pytest.mark.parametrize("key", known_keys(msgspec.to_builtins(Settings())))
def test_every_setting_that_can_be_changed_is_taken_with_its_own_value(key: str, served: Served) -> None:
    value: Any = msgspec.to_builtins(Settings())
    for part in key.split("."):
        value = value[part]
    asked(served, {"set": {key: value}})
