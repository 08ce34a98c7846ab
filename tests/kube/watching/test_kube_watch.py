"""The watch against a scripted API server that fails in various ways. Tests with a real one are in tests/cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import urllib3

from extender.decision.state.changes import Change, NodeSeen
from extender.decision.state.snapshot import Snapshot
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client
from extender.kube.objects.decode import seen
from extender.kube.watching import watch_lines
from extender.kube.watching.watch import without_repeats
from extender.kube.watching.watch_lines import LineBuffer
from tests.kube.watching.scripted_watch import GONE, NODES, PODS, TOPOLOGIES, Reply, Rig, events, page
from tests.objects import node, pod, topology


def test_store_is_synced_after_every_page_is_listed(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"), more="next"), page(node("b"), version="9")]
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced)
    assert rig.nodes() == {"a", "b"}
    rig.wait(lambda: rig.script.count(NODES, "watch") > 0)
    queries = [query for path, query in rig.script.asked if path == NODES]
    assert queries[1]["continue"] == "next"
    assert queries[2]["resourceVersion"] == "9"
    assert queries[2]["allowWatchBookmarks"] == "true"


def test_watch_applies_events_and_resumes_at_the_last_resource_version(rig: Rig) -> None:
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
def test_status_410_causes_a_new_list(rig: Rig, gone: Reply) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a")), page(node("b"))]
    rig.script.replies[NODES, "watch"] = [gone]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"b"})


def test_repeated_status_410_is_followed_by_pauses(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a")) for _ in range(500)]
    rig.script.replies[NODES, "watch"] = [events(GONE) for _ in range(500)]
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced)
    started, before = time.monotonic(), rig.script.count(NODES, "list")
    rig.wait(lambda: rig.script.count(NODES, "list") >= before + 20)
    assert time.monotonic() - started > 19 * 0.02, "each of these lists follows a backoff of 25 to 50 ms in this test"


BROKEN = {
    "connection cut mid-line": events(("ADDED", node("b")), then=b'{"type": "ADD', status=0),
    "a line that is not an event": events(("ADDED", node("b")), then=b"<html>\n"),
    "a server error event": events(("ADDED", node("b")), ("ERROR", {"code": 500, "message": "etcd"})),
    "an unknown event type": events(("ADDED", node("b")), ("SOMETHING", {"metadata": {"name": "x"}})),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_watch_is_resumed_without_loss_of_events(rig: Rig, fault: str) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[NODES, "watch"] = [BROKEN[fault], events(("ADDED", node("c")))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a", "b", "c"})
    assert rig.script.count(NODES, "list") == 1


@pytest.mark.parametrize("fault", [(500, b"etcd is away"), (503, b""), (401, b"{}"), (0, b'{"met'), (200, b"<html>")])
def test_failed_list_is_retried_and_counted(rig: Rig, fault: Reply) -> None:
    rig.script.replies[NODES, "list"] = [fault, fault, page(node("a"))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a"})
    failures = rig.metrics.render().decode()
    assert "fabricwise_watch_failures_total{cause=" in failures


def test_store_is_synced_without_the_crd_and_reads_topologies_once_it_is_installed(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[TOPOLOGIES, "list"] = [(404, b"{}"), (404, b"{}"), page(topology("a", "t4"))]
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced)
    rig.wait(lambda: "a" in rig.store.snapshot.topologies)


def test_invalid_object_is_skipped_and_others_are_applied(rig: Rig) -> None:
    broken = node("broken") | {"status": {"allocatable": 7}}
    rig.script.replies[NODES, "list"] = [page(broken, node("a"), {"metadata": {}})]
    rig.script.replies[PODS, "watch"] = [events(("ADDED", {"metadata": {"name": "x"}, "spec": 7}), ("ADDED", pod(2, node="a")))]
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced and len(rig.store.snapshot.pods) == 1)
    assert rig.nodes() == {"a"}


def test_pods_are_listed_without_those_that_have_ended(rig: Rig) -> None:
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced)
    query = next(query for path, query in rig.script.asked if path == PODS)
    assert query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"


def test_bearer_token_is_sent_with_each_request(rig: Rig) -> None:
    seen: list[dict[str, str]] = []
    original = urllib3.PoolManager.request

    def spy(self: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        seen.append(options["headers"])
        return original(self, method, url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib3.PoolManager, "request", spy)
        rig.start()
        rig.wait(lambda: rig.store.snapshot.synced)
    assert seen[0]["authorization"] == "Bearer secret"


def test_invalid_kubeconfig_raises_only_cluster_source_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "{", "clusters: 7", "current-context: nowhere"):
        path = tmp_path / "kubeconfig"
        path.write_text(text)
        with pytest.raises(ClusterSourceError, match="no Kubernetes configuration"):
            api_client(str(path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "nowhere"))
    with pytest.raises(ClusterSourceError):
        api_client()


def test_state_ages_while_a_watch_is_lost_and_is_current_once_it_is_restored(rig: Rig) -> None:
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[PODS, "watch"] = [(500, b"")] * 60
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced and "pods" in rig.store.snapshot.watch_lost_at)
    assert set(rig.store.snapshot.watch_lost_at) == {"pods"}, "the watches of other kinds work"
    first = rig.store.snapshot.watch_lost_at["pods"]
    assert rig.store.snapshot.age_seconds(first + 5.0) == 5.0
    rig.wait(lambda: not rig.store.snapshot.watch_lost_at)
    assert rig.store.snapshot.age_seconds(first + 5.0) == 0.0


def test_watch_that_is_resumed_at_once_is_not_reported_as_lost(rig: Rig) -> None:
    rig.script.replies[NODES, "watch"] = [events(("ADDED", node("a")), status=0), events(("ADDED", node("b")))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a", "b"})
    rig.wait(lambda: not rig.store.snapshot.watch_lost_at)


def at_version(manifest: dict[str, Any], version: int) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}


def padded(manifest: dict[str, Any]) -> dict[str, Any]:
    """The object with as many bytes as a large one has: a connection reads at most 8 KiB ahead."""
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": ["x" * 9_000]}}


def test_line_that_is_no_event_harms_no_other_line_and_is_asked_for_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_lines, "BATCH_SECONDS", 10.0)  # also on a busy machine the lines after the first are one batch
    broken = json.dumps({"type": "ADDED", "object": padded(at_version(node("c"), 7))}).encode()[:-40]
    rig.script.replies[NODES, "list"] = [page(node("a"), version="5")]
    rig.script.replies[NODES, "watch"] = [
        events(("ADDED", padded(at_version(node("b"), 6))), then=broken + b"\n" + events(("ADDED", padded(at_version(node("d"), 8))))[1]),
        events(("ADDED", at_version(node("c"), 7)), ("ADDED", at_version(node("d"), 8))),
    ]
    known_at_second_watch: list[set[str]] = []
    reply = rig.script.reply

    def noted(path: str, query: dict[str, str]) -> Reply:
        if path == NODES and query.get("resourceVersion") == "6":
            known_at_second_watch.append(rig.nodes())
        return reply(path, query)

    rig.script.reply = noted  # type: ignore[method-assign]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a", "b", "c", "d"})
    assert known_at_second_watch[0] == {"a", "b", "d"}, "the lines around it count; the watch is resumed at the version before it"
    assert rig.script.count(NODES, "list") == 1


def test_burst_of_events_is_folded_in_few_changes_of_state(rig: Rig) -> None:
    batches: list[int] = []
    apply = rig.store.apply

    def counted(changes: Iterable[Change]) -> Snapshot:
        group = list(changes)
        batches.append(sum(isinstance(change, NodeSeen) for change in group))
        return apply(group)

    rig.store.apply = counted  # type: ignore[method-assign]
    rig.script.replies[NODES, "watch"] = [events(*(("ADDED", padded(node(f"n{number}"))) for number in range(100)))]
    rig.start()
    rig.wait(lambda: len(rig.nodes()) == 100)
    assert sum(batches) == 100
    assert sum(size > 0 for size in batches) <= 50


def test_every_state_of_an_object_in_a_burst_is_shown_to_the_observers(rig: Rig) -> None:
    seen_pending: list[str] = []
    rig.store.observe = lambda before, after: seen_pending.extend(set(before.pending) - set(after.pending))
    created, other = pod(2, name="a"), pod(2, name="b")
    rig.script.replies[PODS, "watch"] = [
        events(("ADDED", created), ("ADDED", other), ("MODIFIED", pod(2, name="a", node="n")), ("MODIFIED", pod(2, name="b", node="n")))
    ]
    rig.start()
    rig.wait(lambda: len(rig.store.snapshot.pods) == 2)
    assert sorted(seen_pending) == ["uid-a", "uid-b"], "a pod that is created and bound in one burst was pending"


def test_changes_are_grouped_without_repeats_in_their_order() -> None:
    changes = [seen("Pod", pod(1, name=name)) for name in "abacbb"]
    groups = list(without_repeats(changes))
    assert [change for group in groups for change in group] == changes
    assert [len(group) for group in groups] == [2, 3, 1]


def test_watch_that_breaks_at_a_line_that_is_too_long_is_resumed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LineBuffer.__init__, "__defaults__", (10_000,))
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    rig.script.replies[NODES, "watch"] = [events(then=b"x" * 200_000), events(("ADDED", node("b")))]
    rig.start()
    rig.wait(lambda: rig.nodes() == {"a", "b"})
    assert rig.script.count(NODES, "list") == 1


def test_event_older_than_the_known_resource_version_changes_nothing(rig: Rig) -> None:
    def at(version: int, gpus: int) -> dict[str, Any]:
        manifest = node("a", gpus)
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}

    rig.script.replies[NODES, "list"] = [page(at(5, 4), version="6")]
    rig.script.replies[NODES, "watch"] = [
        events(("MODIFIED", at(9, 8)), ("MODIFIED", at(7, 2)), ("DELETED", at(8, 2)), ("ADDED", at(9, 8)))
    ]
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced and rig.script.count(NODES, "watch") > 1)
    assert rig.store.snapshot.views["a"].state.allocatable == 8
