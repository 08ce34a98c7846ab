"""The HTTP API over a real server: wire format, invalid input, debug API."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml

from extender.decision.cycle.scheduling_cycle import Stall
from extender.scheduling.binder import NOT_SYNCED
from extender.server.service import build_service
from extender.settings import Limits, Server, Settings
from extender.sources.simulated import simulated
from tests.conftest import Served, serve
from tests.objects import GPU, node, pod, pod_struct, topology
from tests.scheduling.cluster_writers import RecordingWriter, cluster_of


def filter_(served: Served, manifest: dict[str, Any], names: list[str]) -> dict[str, Any]:
    answer: dict[str, Any] = served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": names}).json()
    return answer


def prioritize(served: Served, manifest: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = served.client.post("/scheduler/prioritize", json={"Pod": manifest, "NodeNames": names}).json()
    return answer


@pytest.fixture
def names(served: Served) -> list[str]:
    return list(served.cluster.machines)


KEYS = ["Nodes", "NodeNames", "FailedNodes", "FailedAndUnresolvableNodes", "Error"]


def test_filter_has_every_key_capitalised_with_explicit_nulls(served: Served, names: list[str]) -> None:
    response = served.client.post("/scheduler/filter", json={"Pod": pod(8), "Nodes": None, "NodeNames": names})
    answer = response.json()
    assert list(answer) == KEYS
    assert answer["Nodes"] is None
    assert answer["Error"] == ""
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)


def test_every_dropped_node_is_explained_once(served: Served, names: list[str]) -> None:
    answer = filter_(served, pod(8), [*names, *names])
    parts = [answer["NodeNames"], answer["FailedNodes"], answer["FailedAndUnresolvableNodes"]]
    assert sorted(name for part in parts for name in part) == sorted(names), "in, out, no duplicates"
    assert answer["FailedAndUnresolvableNodes"]["t4-0"] == "node has fewer GPUs than the pod requests"


def test_node_that_an_eviction_could_make_feasible_is_in_failed_nodes(served: Served) -> None:
    served.cluster.bind(pod(3, name="first"), "t4-0", served.service.store)
    answer = filter_(served, pod(2), ["t4-0"])
    assert answer["FailedNodes"] == {"t4-0": "too few free GPUs"}
    assert answer["NodeNames"] == []


def test_answers_are_equal_in_each_attempt(served: Served, names: list[str]) -> None:
    body = json.dumps({"Pod": pod(8), "NodeNames": names})
    first = served.client.post("/scheduler/filter", content=body).content
    assert all(served.client.post("/scheduler/filter", content=body).content == first for _ in range(3))


def test_prioritize_answers_a_bare_array_with_an_integer_for_each_host_once(served: Served, names: list[str]) -> None:
    answer = prioritize(served, pod(2), [*names, names[0]])
    assert [entry["Host"] for entry in answer] == names
    assert all(list(entry) == ["Host", "Score"] and type(entry["Score"]) is int and 0 <= entry["Score"] <= 10 for entry in answer)
    assert max(answer, key=lambda entry: entry["Score"])["Host"] == "hgx-b200-0"


def test_whole_nodes_are_echoed_unchanged(served: Served) -> None:
    given = [node("t4-0", 4) | {"spec": {"odd": [1, {"x": None}]}}, node("hgx-h100-0", 8)]
    args = {"Pod": pod(8), "Nodes": {"metadata": {"resourceVersion": "7"}, "items": given}, "NodeNames": None}
    answer = served.client.post("/scheduler/filter", json=args).json()
    assert answer["NodeNames"] is None
    assert answer["Nodes"]["items"] == [given[1]]
    assert list(answer["FailedAndUnresolvableNodes"]) == ["t4-0"]


@pytest.mark.parametrize("candidates", [None, []])
def test_filter_of_no_nodes_passes_no_node(served: Served, candidates: list[str] | None) -> None:
    answer = served.client.post("/scheduler/filter", json={"Pod": pod(1), "NodeNames": candidates}).json()
    assert (answer["NodeNames"], answer["FailedNodes"], answer["Error"]) == ([], {}, "")
    assert served.client.post("/scheduler/prioritize", json={"Pod": pod(1), "NodeNames": candidates}).json() == []


def test_unknown_json_fields_are_accepted(served: Served) -> None:
    args = {"Pod": pod(1) | {"new": {"field": 1}}, "NodeNames": ["t4-0"], "Future": [1, 2]}
    assert served.client.post("/scheduler/filter", json=args).json()["NodeNames"] == ["t4-0"]


def test_unknown_node_is_rejected_with_a_resolvable_reason(served: Served) -> None:
    answer = filter_(served, pod(1), ["t4-0", "nowhere"])
    assert answer["NodeNames"] == ["t4-0"]
    assert answer["FailedNodes"] == {"nowhere": "node is not yet known to fabricwise"}


def test_pod_without_gpus_passes_on_every_node(served: Served, names: list[str]) -> None:
    assert filter_(served, pod(), names)["NodeNames"] == names
    assert {entry["Score"] for entry in prioritize(served, pod(), names)} == {0}


def test_filter_answers_five_thousand_names(served: Served) -> None:
    many = [f"ghost-{i}" for i in range(5000)]
    assert len(filter_(served, pod(1), many)["FailedNodes"]) == 5000


# body -> text that the Error must contain
BAD_BODIES = {
    b"": "truncated",
    b"{": "truncated",
    b"null": "Expected `object`, got `null`",
    b"[1]": "Expected `object`, got `array`",
    b"\xff\xfe": "request body is not ExtenderArgs",
    b'{"NodeNames": ["a"]}': "missing required field `Pod`",
    b'{"Pod": null, "NodeNames": ["a"]}': "$.Pod",
    b'{"Pod": {"metadata": {}, "spec": {}}, "NodeNames": "a"}': "$.NodeNames",
    b'{"Pod": {"metadata": {}, "spec": {}}, "NodeNames": [1]}': "$.NodeNames[0]",
    b'{"Pod": {"metadata": {"name": 3}, "spec": {}}, "NodeNames": []}': "$.Pod.metadata.name",
    b'{"Pod": {"metadata": {}, "spec": {"containers": {}}}, "NodeNames": []}': "$.Pod.spec.containers",
    b'{"Pod": {"metadata": {}, "spec": {}}, "Nodes": {"items": [{"metadata": {}}]}}': "Nodes.items[0]",
}


@pytest.mark.parametrize("body", BAD_BODIES)
def test_invalid_body_is_answered_200_with_an_error_that_names_the_field(served: Served, body: bytes) -> None:
    response = served.client.post("/scheduler/filter", content=body)
    assert response.status_code == 200
    assert list(response.json()) == KEYS
    assert BAD_BODIES[body] in response.json()["Error"]
    scored = served.client.post("/scheduler/prioritize", content=body)
    assert (scored.status_code, scored.json()) == (200, [])
    assert scored.headers["x-fabricwise-error"]


def test_deeply_nested_json_is_answered_with_an_error(served: Served) -> None:
    body = b'{"Pod": ' + b"[" * 100_000
    assert served.client.post("/scheduler/filter", content=body).json()["Error"]
    assert served.client.post("/v1/explain", content=body).status_code == 400
    assert served.client.get("/healthz").text == "ok"


@pytest.mark.parametrize("count", ["-1", "many", "1.5", "1e999999999", 10**30])
def test_invalid_gpu_count_is_unresolvable_on_every_node(served: Served, names: list[str], count: object) -> None:
    answer = filter_(served, pod(count), names)
    assert set(answer["FailedAndUnresolvableNodes"]) == set(names)
    assert set(answer["FailedAndUnresolvableNodes"].values()) == {"pod's GPU request is not a whole number"}
    assert {entry["Score"] for entry in prioritize(served, pod(count), names)} == {0}


def test_body_of_ten_megabytes_is_refused_with_the_limit_and_the_connection_stays_open(served: Served) -> None:
    body = json.dumps({"Pod": pod(1), "NodeNames": ["t4-0"], "Padding": "x" * (10 << 20)})
    response = served.client.post("/scheduler/filter", content=body)
    assert response.status_code == 200
    assert "larger than the limit of 8388608 bytes" in response.json()["Error"]
    assert served.client.post("/v1/explain", content=body).status_code == 400
    assert filter_(served, pod(1), ["t4-0"])["NodeNames"] == ["t4-0"]


def test_limit_of_the_body_is_a_setting() -> None:
    settings = Settings(server=Server(log_level="error"), limits=Limits(max_body_bytes=32 << 20))
    service, cluster = build_service(settings), simulated(GPU)
    service.store.apply(cluster.listing())
    for served in serve(service, cluster):
        body = json.dumps({"Pod": pod(1), "NodeNames": ["t4-0"], "Padding": "x" * (10 << 20)})
        assert served.client.post("/scheduler/filter", content=body).json()["NodeNames"] == ["t4-0"]


def test_connections_are_kept_alive(served: Served) -> None:
    url = served.client.base_url
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert Settings().server.keep_alive_seconds > 90


@pytest.fixture
def unsynced() -> Iterator[Served]:
    settings = Settings(server=Server(log_level="error"))
    yield from serve(build_service(settings), simulated(GPU))


def test_filter_before_the_first_list_is_an_error_and_not_a_rejection(unsynced: Served) -> None:
    answer = filter_(unsynced, pod(1), ["a"])
    assert answer["Error"] == NOT_SYNCED
    assert (answer["NodeNames"], answer["FailedNodes"], answer["FailedAndUnresolvableNodes"]) == (None, {}, {})
    assert prioritize(unsynced, pod(1), ["a"]) == [{"Host": "a", "Score": 0}]
    assert unsynced.client.get("/readyz").status_code == 503
    assert "nodes, pods, topologies" in unsynced.client.get("/readyz").text
    assert unsynced.client.get("/healthz").status_code == 200
    assert unsynced.client.post("/v1/explain", json=pod(1)).status_code == 503


def test_nominated_node_that_seems_full_is_an_error_because_the_watch_lags(served: Served) -> None:
    served.cluster.bind(pod(4, name="victim"), "t4-0", served.service.store)
    nominated = pod(4) | {"status": {"nominatedNodeName": "t4-0"}}
    assert filter_(served, nominated, ["t4-0"])["Error"] == Stall.LAGGING
    elsewhere = filter_(served, nominated, ["t4-0", "t4-1"])
    assert (elsewhere["Error"], elsewhere["NodeNames"]) == ("", ["t4-1"]), "another feasible node is answered at once"
    too_many = pod(5) | {"status": {"nominatedNodeName": "t4-0"}}
    assert filter_(served, too_many, ["t4-0"])["Error"] == "", "a rejection that no eviction resolves stays one"


def test_explain_names_the_chosen_node_and_the_numbers_of_every_node(served: Served, names: list[str]) -> None:
    answer = served.client.post("/v1/explain", json=pod(4)).json()
    assert list(answer) == ["pod", "demand", "chosen", "nodes", "inferred", "not_checked", "of", "cluster"]
    assert answer["chosen"] == "hgx-b200-0"
    assert answer["demand"]["gpus"] == 4
    assert {row["node"] for row in answer["nodes"]} == set(names)
    row = answer["nodes"][0]
    fields = ["node", "feasible", "score", "value", "rejection", "scores"]
    fields += ["best_bandwidth_gbps", "expected_bandwidth_gbps", "worst_bandwidth_gbps", "predicted"]
    assert list(row)[: len(fields)] == fields
    assert set(row["scores"]) == {"link", "fragmentation", "memory", "pressure"}
    assert set(row["scores"]["link"]) == {"value", "weight", "detail"}
    assert sum(outcome["probability"] for outcome in row["predicted"]) == pytest.approx(1)


def test_explain_answers_each_template_of_a_workload_and_refuses_too_many(served: Served) -> None:
    template = {"spec": pod(2)["spec"]}
    manifest = {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "x"},
        "spec": {"leaderWorkerTemplate": {"leaderTemplate": template, "workerTemplate": template}},
    }
    answer = served.client.post("/v1/explain", json=manifest).json()
    assert [one["of"] for one in answer["explanations"]] == ["leaderworkerset/x leader", "leaderworkerset/x worker"]
    response = served.client.post("/v1/explain", json={"kind": "List", "items": [pod(1)] * 11})
    assert (response.status_code, "at most 10" in response.json()["error"]) == (400, True)


def test_explain_reads_yaml_and_pod_templates(served: Served) -> None:
    text = yaml.safe_dump({"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec": pod(2)["spec"]}}})
    assert served.client.post("/v1/explain", content=text).json()["demand"]["gpus"] == 2


@pytest.mark.parametrize("body", [b"", b"{", b"- 1", b"a: [", b"kind: Service", b'{"metadata": 1, "spec": {}}', b"\xff", b"&a [*a]", b"1"])
def test_explain_of_a_body_without_a_pod_is_answered_400_with_a_reason(served: Served, body: bytes) -> None:
    response = served.client.post("/v1/explain", content=body)
    assert response.status_code == 400
    assert response.json()["error"]


def test_explain_of_an_invalid_gpu_request_names_the_container_and_the_value(served: Served) -> None:
    answer = served.client.post("/v1/explain", json=pod("many")).json()
    assert answer["chosen"] is None
    assert "container c0, nvidia.com/gpu: 'many'" in answer["demand"]["problem"]


def test_nodes_are_listed_and_one_node_is_shown_with_its_pods(served: Served, names: list[str]) -> None:
    served.cluster.bind(pod(2, name="first"), "t4-0", served.service.store)
    listed = served.client.get("/v1/nodes").json()["nodes"]
    assert [row["node"] for row in listed] == sorted(names)
    detail = served.client.get("/v1/nodes/t4-0").json()
    assert (detail["free"], len(detail["allocated"]), detail["pods"]) == (2, 2, [{"namespace": "team", "name": "first", "gpus": 2}])
    assert served.client.get("/v1/nodes/nowhere").status_code == 404


def test_topology_that_contradicts_the_node_is_shown_and_counted(served: Served) -> None:
    from extender.kube.objects.decode import seen

    wrong = topology("t4-0", "hgx-h100")
    served.service.store.apply([seen("GpuTopology", wrong)])
    assert "label nvidia.com/gpu.count says 4" in served.client.get("/v1/nodes/t4-0").json()["problem"]
    assert 'fabricwise_nodes{topology="contradicted"} 1.0' in served.client.get("/metrics").text


def test_decisions_are_listed_newest_first_with_the_verdict_on_every_node(served: Served, names: list[str]) -> None:
    filter_(served, pod(8, name="one"), names)
    prioritize(served, pod(2, name="two"), names)
    decisions = served.client.get("/v1/decisions").json()["decisions"]
    assert [(d["verb"], d["pod"]) for d in decisions] == [("prioritize", "team/two"), ("filter", "team/one")]
    assert [row["node"] for row in decisions[1]["nodes"]] == names
    assert decisions[1]["nodes"][names.index("t4-0")]["rejection"]["reason"]
    assert decisions[0]["nodes"][0]["score"] is not None
    assert len(served.client.get("/v1/decisions", params={"pod": "one"}).json()["decisions"]) == 1
    assert served.client.get("/v1/decisions", params={"limit": 0}).status_code == 422


def test_metrics_count_the_calls_of_verbs(served: Served, names: list[str]) -> None:
    filter_(served, pod(8), names)
    text = served.client.get("/metrics").text
    assert 'fabricwise_verb_seconds_count{verb="filter"} 1.0' in text
    assert 'fabricwise_filtered_nodes_total{outcome="passed"}' in text
    assert "fabricwise_synced 1.0" in text


def test_openapi_names_every_route(served: Served) -> None:
    paths = served.client.get("/openapi.json").json()["paths"]
    wanted = {"/scheduler/filter", "/scheduler/prioritize", "/v1/explain", "/v1/nodes", "/v1/nodes/{name}", "/v1/decisions"}
    assert wanted | {"/healthz", "/readyz", "/metrics"} <= set(paths)


def test_api_page_loads_everything_from_this_server(served: Served) -> None:
    page = served.client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text, "no address outside of this server"
    assert not re.search(r"""["'(]//""", page.text), "nor an address without a scheme"
    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert {"/openapi.json"} < set(loaded)
    assert any(path.endswith(".js") for path in loaded)
    assert any(path.endswith(".css") for path in loaded)
    for path in loaded:
        assert served.client.get(path).status_code == 200, path
    assert '"validatorUrl": null' in page.text
    assert served.client.get("/redoc").status_code == 404, "its page loads fonts from elsewhere"


def test_strict_decoder_accepts_the_answer_of_prioritize(served: Served, names: list[str]) -> None:
    """Go's decoder accepts neither a float nor a string as a score."""

    class Host(msgspec.Struct, forbid_unknown_fields=True):
        Host: str
        Score: int

    content = served.client.post("/scheduler/prioritize", json={"Pod": pod(2), "NodeNames": names}).content
    assert len(msgspec.json.decode(content, type=list[Host])) == len(names)


def test_unexpected_exception_is_answered_200_with_an_error(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.scheduling import scheduling_service
    from extender.web import scheduler_api

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scheduling_service, "evaluate_pod", broken)
    response = served.client.post("/scheduler/filter", json={"Pod": pod(1), "NodeNames": ["t4-0"]})
    assert (response.status_code, response.json()["Error"]) == (200, scheduler_api.INTERNAL)
    assert 'cause="internal"' in served.client.get("/metrics").text


def test_decision_shows_which_gpus_the_pod_got(served: Served, names: list[str]) -> None:
    manifest = pod(2, name="judged")
    body = {"Pod": manifest, "Nodes": None, "NodeNames": names}
    served.client.post("/scheduler/filter", json=body)
    (waiting,) = served.client.get("/v1/decisions", params={"pod": "team/judged"}).json()["decisions"]
    assert waiting["outcome"] is None
    gpus = served.cluster.bind(manifest, "dgx-1v-0", served.service.store)
    (decision,) = served.client.get("/v1/decisions", params={"pod": "team/judged"}).json()["decisions"]
    assert decision["outcome"]["gpus"] == list(gpus)
    assert decision["outcome"]["in_support"] is True
    assert decision["outcome"]["bandwidth_gbps"] == decision["outcome"]["expected_bandwidth_gbps"] == 40.0
    metrics = served.client.get("/metrics").text
    assert 'fabricwise_predictions_total{in_support="yes"} 1.0' in metrics
    assert "fabricwise_actual_gbps_sum 40.0" in metrics
    assert "fabricwise_allocation_disagreements 0.0" in metrics
    held = served.client.get("/v1/nodes/dgx-1v-0").json()["held"]
    assert held == {"team/judged": list(gpus)}


def test_event_is_posted_for_a_pod_that_gets_less_bandwidth_than_its_floor() -> None:
    """NVIDIA's device plugin is predicted to prefer the bridge; the plugin of this node does not."""
    from extender.decision.state.changes import TopologySeen
    from extender.kube.objects.decode import seen
    from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord

    writer, cluster = RecordingWriter(), simulated(GPU)
    service = build_service(Settings(server=Server(log_level="error")), cluster_of(writer))
    service.store.apply(cluster.listing())
    manifest = pod(2, name="floored", annotations={"fabricwise.dev/min-busbw": "200"})
    service.scheduling.filter(pod_struct(manifest), list(cluster.machines), 0)
    node = "a100-pcie-bridge-pairs-0"
    status = DeviceStatus(allocated=(Allocation(0, "uid-floored"), Allocation(2, "uid-floored")))
    bound = {**manifest, "spec": {**manifest["spec"], "nodeName": node}}
    record = TopologyRecord(node, cluster.machines[node], status)
    service.store.apply((seen("Pod", bound), TopologySeen(node, record)))
    ((known, floor),) = writer.floors_missed
    assert (known.gpus, known.busbw_gbps, floor) == ((0, 2), 20.0, 200.0)


def test_metrics_show_what_the_steerers_of_the_nodes_count(served: Served) -> None:
    from extender.kube.objects.decode import seen
    from topology.gputopology.topology_record import DeviceStatus, SteeringStatus

    steering = SteeringStatus("0.1.0", ("nvidia.com/gpu",), "mixed", (), (), 7, (("timeout", 1),), 2)
    served.service.store.apply([seen("GpuTopology", topology("t4-0", "t4", DeviceStatus((0, 1, 2, 3), steering=steering)))])
    text = served.client.get("/metrics").text
    assert 'fabricwise_node_steering_answers_total{node="t4-0",reason="",result="steered"} 7.0' in text
    assert 'fabricwise_node_steering_differing_total{node="t4-0"} 2.0' in text
