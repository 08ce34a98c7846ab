"""The watch against an API server that misbehaves on cue. The well-behaved real one is in tests/cluster."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import kubernetes
import pytest
import urllib3
import yaml

from extender.adapters import kube_resources, kube_watch
from extender.adapters.kube_client import api_client
from extender.adapters.kube_watch import KubeWatch
from extender.adapters.simulated_dra import slice_manifests
from extender.errors import ClusterSourceError
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.settings import Kube
from tests.dra.objects import bare_node
from tests.objects import GPU, node, pod, topology
from topology.platforms import machine_of

Reply = tuple[int, bytes]
"""(status, body); status 0 breaks the connection after the body."""


def page(*items: dict[str, Any], version: str = "1", more: str = "") -> Reply:
    return 200, json.dumps({"metadata": {"resourceVersion": version, "continue": more}, "items": items}).encode()


def events(*pairs: tuple[str, dict[str, Any]], then: bytes = b"", status: int = 200) -> Reply:
    lines = b"".join(json.dumps({"type": kind, "object": thing}).encode() + b"\n" for kind, thing in pairs)
    return status, lines + then


GONE = ("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


@dataclass
class Script:
    """Replies per (path, list or watch), in order; when they run out, lists are empty and watches wait."""

    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def reply(self, path: str, query: dict[str, str]) -> Reply:
        self.asked.append((path, query))
        waiting = self.replies.get((path, "watch" if "watch" in query else "list"), [])
        if waiting:
            return waiting.pop(0)
        if "watch" in query:
            time.sleep(0.2)
            return 200, b""
        return page()

    def count(self, path: str, how: str) -> int:
        return sum(p == path and (("watch" in q) == (how == "watch")) for p, q in self.asked)


NODES, PODS, TOPOLOGIES = "/api/v1/nodes", "/api/v1/pods", "/apis/fabricwise.dev/v1alpha1/gputopologies"


@dataclass
class Rig:
    """A scripted server, and a live cluster that follows it."""

    script: Script
    live: LiveCluster
    metrics: Metrics
    start: Callable[[], None]

    def wait(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not check():
            assert time.monotonic() < deadline, self.script.asked
            time.sleep(0.01)

    def nodes(self) -> set[str]:
        return set(self.live.snapshot.nodes)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlparse(self.path)
            status, body = script.reply(url.path, {key: values[0] for key, values in parse_qs(url.query).items()})
            self.send_response(status or 200)
            self.send_header("Content-Length", str(len(body) + (1000 if status == 0 else 0)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = status == 0

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "current-context": "t",
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "clusters": [{"name": "t", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "t", "user": {"token": "secret"}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(kube_watch, "_ABSENT_RETRY_SECONDS", 0.05)
    live, metrics = LiveCluster(GPU, warm_tables=False), Metrics()
    watch = KubeWatch(api_client(str(kubeconfig)), live, Kube(max_backoff_seconds=0.05), metrics)
    yield Rig(script, live, metrics, watch.start)
    watch.stop()
    server.shutdown()
    server.server_close()


def test_lists_every_page_then_is_synced(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"), more="next"), page(node("b"), version="9")]
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced)
    assert rig.nodes() == {"a", "b"}
    rig.wait(lambda: rig.script.count(NODES, "watch") > 0)
    queries = [query for path, query in rig.script.asked if path == NODES]
    assert queries[1]["continue"] == "next"
    assert queries[2]["resourceVersion"] == "9"
    assert queries[2]["allowWatchBookmarks"] == "true"


def test_follows_events_and_resumes_where_it_stopped(rig: Rig) -> None:
    added = node("b")
    added["metadata"]["resourceVersion"] = "5"
    bookmark = {"metadata": {"resourceVersion": "8"}}
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[NODES, "watch"] = [events(("ADDED", added), ("DELETED", node("a")), ("BOOKMARK", bookmark))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"b"})
    rig.wait(lambda: rig.script.count(NODES, "watch") > 1)
    assert [q["resourceVersion"] for p, q in rig.script.asked if p == NODES and "watch" in q][1] == "8"
    assert rig.script.count(NODES, "list") == 1


@pytest.mark.parametrize("gone", [events(GONE), (410, b"{}")])
def test_lost_history_lists_again(rig: Rig, gone: Reply) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a")), page(node("b"))]
    rig.script.replies[NODES, "watch"] = [gone]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"b"})


def test_a_server_that_keeps_losing_history_is_not_hammered(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a")) for _ in range(500)]
    rig.script.replies[NODES, "watch"] = [events(GONE) for _ in range(500)]
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced)
    before = rig.script.count(NODES, "list")
    time.sleep(1.0)
    assert rig.script.count(NODES, "list") - before < 60, "at the tests' backoff of 25 to 50 ms; a second without one gives hundreds"


BROKEN = {
    "connection cut mid-line": events(("ADDED", node("b")), then=b'{"type": "ADD', status=0),
    "a line that is no event": events(("ADDED", node("b")), then=b"<html>\n"),
    "a server error event": events(("ADDED", node("b")), ("ERROR", {"code": 500, "message": "etcd"})),
    "an unknown event type": events(("ADDED", node("b")), ("SOMETHING", {"metadata": {"name": "x"}})),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_watch_is_resumed_and_nothing_is_lost(rig: Rig, fault: str) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[NODES, "watch"] = [BROKEN[fault], events(("ADDED", node("c")))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a", "b", "c"})
    assert rig.script.count(NODES, "list") == 1


@pytest.mark.parametrize("fault", [(500, b"etcd is away"), (503, b""), (401, b"{}"), (0, b'{"met'), (200, b"<html>")])
def test_a_failed_list_is_tried_again_and_counted(rig: Rig, fault: Reply) -> None:
    rig.script.replies[NODES, "list"] = [fault, fault, page(node("a"))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a"})
    failures = rig.metrics.render().decode()
    assert "fabricwise_watch_failures_total{cause=" in failures


def test_without_the_crd_the_extender_is_ready_all_the_same(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[TOPOLOGIES, "list"] = [(404, b"{}"), (404, b"{}"), page(topology("a", "t4"))]
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced)
    rig.wait(lambda: "a" in rig.live.snapshot.topologies)


def test_an_object_that_cannot_be_read_is_skipped_not_fatal(rig: Rig) -> None:
    broken = node("broken") | {"status": {"allocatable": 7}}
    rig.script.replies[NODES, "list"] = [page(broken, node("a"), {"metadata": {}})]
    rig.script.replies[PODS, "watch"] = [events(("ADDED", {"metadata": {"name": "x"}, "spec": 7}), ("ADDED", pod(2, node="a")))]
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced and len(rig.live.snapshot.pods) == 1)
    assert rig.nodes() == {"a"}


def test_only_pods_that_have_not_ended_are_asked_for(rig: Rig) -> None:
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced)
    query = next(query for path, query in rig.script.asked if path == PODS)
    assert query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"


def test_the_token_is_sent(rig: Rig) -> None:
    seen: list[dict[str, str]] = []
    original = urllib3.PoolManager.request

    def spy(self: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        seen.append(options["headers"])
        return original(self, method, url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib3.PoolManager, "request", spy)
        rig.start()
        rig.wait(lambda: rig.live.snapshot.synced)
    assert seen[0]["authorization"] == "Bearer secret"


def test_no_vendor_exception_leaves_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "{", "clusters: 7", "current-context: nowhere"):
        path = tmp_path / "kubeconfig"
        path.write_text(text)
        with pytest.raises(ClusterSourceError, match="no Kubernetes configuration"):
            api_client(str(path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "nowhere"))
    with pytest.raises(ClusterSourceError):
        api_client()


def test_while_the_server_does_not_answer_the_state_grows_old_and_is_fresh_again_when_it_does(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[PODS, "watch"] = [(500, b"")] * 12
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced and "pods" in rig.live.snapshot.silent)
    assert set(rig.live.snapshot.silent) == {"pods"}, "the others are heard"
    first = rig.live.snapshot.silent["pods"]
    assert rig.live.snapshot.age_seconds(first + 5.0) == 5.0
    rig.wait(lambda: not rig.live.snapshot.silent)
    assert rig.live.snapshot.age_seconds(first + 5.0) == 0.0


def test_a_broken_watch_that_is_resumed_at_once_leaves_nothing_old(rig: Rig) -> None:
    rig.script.replies[NODES, "watch"] = [events(("ADDED", node("a")), status=0), events(("ADDED", node("b")))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a", "b"})
    rig.wait(lambda: not rig.live.snapshot.silent)


def test_an_event_that_was_overtaken_changes_nothing(rig: Rig) -> None:
    def at(version: int, gpus: int) -> dict[str, Any]:
        manifest = node("a", gpus)
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}

    rig.script.replies[NODES, "list"] = [page(at(5, 4), version="6")]
    rig.script.replies[NODES, "watch"] = [
        events(("MODIFIED", at(9, 8)), ("MODIFIED", at(7, 2)), ("DELETED", at(8, 2)), ("ADDED", at(9, 8)))
    ]
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced and rig.script.count(NODES, "watch") > 1)
    assert rig.live.snapshot.views["a"].state.allocatable == 8


SLICES, RULES_V1 = "/apis/resource.k8s.io/v1/resourceslices", "/apis/resource.k8s.io/v1/devicetaintrules"
DRA_PATHS = [resource.path for resource in kube_resources.DRA_RESOURCES]


def test_without_resource_k8s_io_nothing_is_watched_and_nothing_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for path in DRA_PATHS:
        rig.script.replies[path, "list"] = [(404, b"{}")] * 50
    rig.script.replies[RULES_V1.replace("v1", "v1beta2"), "list"] = [(404, b"{}")] * 50
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    with caplog.at_level("INFO"):
        rig.start()
        rig.wait(lambda: rig.live.snapshot.synced)
        time.sleep(0.3)
    assert [rig.script.count(path, "list") for path in DRA_PATHS] == [1] * 5
    assert sum(rig.script.count(path, "watch") for path in DRA_PATHS) == 0
    assert not [record for record in caplog.records if "resource" in record.getMessage()]


def test_forbidden_resource_k8s_io_is_said_once_per_kind_and_keeps_nothing_waiting(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in DRA_PATHS:
        rig.script.replies[path, "list"] = [(403, b"{}")] * 50
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    monkeypatch.setattr(kube_watch, "RESOURCES", tuple(replace(one, absent_retry_seconds=0.05) for one in kube_resources.RESOURCES))
    with caplog.at_level("INFO"):
        rig.start()
        rig.wait(lambda: rig.live.snapshot.synced)
        rig.wait(lambda: rig.script.count(SLICES, "list") > 2)
    told = [record.getMessage() for record in caplog.records if "resourceslices" in record.getMessage()]
    assert len(told) == 1
    assert "RBAC" in told[0]


def test_device_taint_rules_are_read_by_the_version_that_the_api_server_serves(rig: Rig) -> None:
    beta = RULES_V1.replace("v1", "v1beta2")
    rule = {"metadata": {"name": "sick"}, "spec": {"taint": {"key": "a", "effect": "NoSchedule"}}}
    rig.script.replies[RULES_V1, "list"] = [(404, b"{}")]
    rig.script.replies[beta, "list"] = [page(rule)]
    rig.start()
    rig.wait(lambda: "sick" in rig.live.snapshot.dra.devicetaintrules)


def test_nodes_are_not_judged_before_the_slices_are_listed(rig: Rig) -> None:
    rig.script.replies[SLICES, "list"] = [(500, b"{}"), (500, b"{}"), page(slice_manifests("a", machine_of("t4"))[0])]
    rig.script.replies[NODES, "list"] = [page(bare_node("a"))]
    rig.start()
    rig.wait(lambda: rig.live.snapshot.synced)
    assert rig.live.snapshot.dra.devices_of("a").devices
