"""The live view over a real server: the whole cluster, its changes as events, its past, and the bounds of all of them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import msgspec
import pytest

from extender.decision.report.live.cluster_rows import Totals
from extender.decision.state.changes import NodeGone
from extender.kube.objects.decode import seen
from extender.server.http_servers import debug_server_for
from extender.web.live import cluster_feed, event_stream
from extender.web.live.cluster_history import SIZES, ClusterHistory, sample_of
from extender.web.live.event_ring import EventRing
from extender.web.live.event_stream import frames
from tests.objects import node, pod
from tests.waiting import wait
from tests.web.live_clusters import following, frames_in, next_of, running, served_debug, served_verbs, small_service

NAMES = ["hgx-h100-0", "t4-0", "t4-1"]


def decide(client: httpx.Client, manifest: dict[str, Any]) -> None:
    """One scheduling cycle."""
    for verb in ("filter", "prioritize"):
        assert client.post(f"/scheduler/{verb}", json={"Pod": manifest, "NodeNames": NAMES}).status_code == 200


def test_cluster_has_a_row_per_node_with_gpus_sorted_by_name() -> None:
    service, _ = small_service()
    service.store.apply((seen("Node", node("cpu-only", 0) | {"status": {"capacity": {"cpu": "4"}}}),))
    with served_debug(service) as client:
        answer = client.get("/v1/cluster").json()
    assert [row["name"] for row in answer["nodes"]] == NAMES
    assert answer["totals"] == {"nodes": 3, "gpus": 16, "free": 16, "taken": 0, "assumed": 0, "excluded": 0, "unknown": 0}
    assert (answer["synced"], answer["missing"], answer["nodes_without_gpus"]) == (True, [], 1)


def test_stream_from_the_position_of_the_cluster_has_every_later_change_and_no_earlier_one() -> None:
    service, machines = small_service()
    with served_debug(service) as client:
        first = client.get("/v1/cluster").json()
        machines.bind(pod(1, name="before"), "t4-0", service.store)
        with following(client, first["stream"]) as events:
            event = next_of(events, "nodes")
            assert [row["name"] for row in event["data"]["changed"]] == ["t4-0"]
            assert event["data"]["sequence"] == first["sequence"] + 1
            machines.bind(pod(8, name="after"), "hgx-h100-0", service.store)
            later = next_of(events, "nodes")
            assert [(row["name"], row["states"]) for row in later["data"]["changed"]] == [("hgx-h100-0", "tttttttt")]
        resumed = client.get("/v1/cluster").json()
        assert resumed["sequence"] == later["data"]["sequence"]
        with following(client, event["id"]) as events:
            assert next_of(events, "nodes") == later, "a client that connects again gets what it missed, once"


def test_assumed_pod_is_shown_before_it_is_bound_and_its_decisions_are_events() -> None:
    service, machines = small_service()
    with served_verbs(service) as client:
        position = client.get("/v1/cluster").json()["stream"]
        decide(client, pod(4, name="llm"))
        with following(client, position) as events:
            row = next_of(events, "nodes")["data"]["changed"][0]
            assert (row["name"], row["assumed"], row["free"]) == ("hgx-h100-0", 4, 4)
            decisions = [next_of(events, "decision")["data"] for _ in range(2)]
            assert [(each["verb"], each["outcome"], each["node"]) for each in decisions] == [
                ("filter", "feasible", None),
                ("prioritize", "decided", "hgx-h100-0"),
            ]
            assert decisions[1]["pod"] == "team/llm"
            found = client.get(f"/v1/decisions/{decisions[1]['id']}").json()
            assert (found["verb"], found["decided"]) == ("prioritize", "hgx-h100-0"), "the id opens the decision"
            machines.bind(pod(4, name="llm"), "hgx-h100-0", service.store)
            row = next_of(events, "nodes")["data"]["changed"][0]
            assert (row["taken"], row["assumed"]) == (4, 0)


def test_refused_and_invalid_pods_are_events_with_their_reason() -> None:
    service, _ = small_service()
    with served_verbs(service) as client:
        position = client.get("/v1/cluster").json()["stream"]
        client.post("/scheduler/filter", json={"Pod": pod(16, name="large"), "NodeNames": NAMES})
        client.post("/scheduler/filter", json={"Pod": pod("x", name="bad"), "NodeNames": NAMES})
        with following(client, position) as events:
            found = [next_of(events, "decision")["data"] for _ in range(2)]
    assert (found[0]["outcome"], found[0]["reason"], found[0]["gpus"]) == ("refused", "node has fewer GPUs than the pod requests", 16)
    assert (found[1]["outcome"], found[1]["gpus"]) == ("invalid", None)


def test_removed_node_is_named() -> None:
    service, _ = small_service()
    with served_debug(service) as client:
        position = client.get("/v1/cluster").json()["stream"]
        with following(client, position) as events:
            service.store.apply((NodeGone("t4-1"),))
            event = next_of(events, "nodes")["data"]
    assert (event["removed"], event["changed"], event["totals"]["nodes"]) == (["t4-1"], [], 2)


STRANGE_POSITIONS = ["", "0", "abcdef01.3", "x.y", "..", "9" * 64]


@pytest.mark.parametrize("position", [None, *STRANGE_POSITIONS])
def test_unknown_position_begins_with_resync(position: str | None) -> None:
    service, _ = small_service()
    with served_debug(service) as client, following(client, position) as events:
        first = next(events)
    assert (first["event"], first["id"], first["data"]["sequence"]) == ("resync", None, 0)


def test_position_of_the_future_begins_with_resync() -> None:
    service, _ = small_service()
    with served_debug(service) as client:
        epoch = client.get("/v1/cluster").json()["stream"].partition(".")[0]
        with following(client, f"{epoch}.999") as events:
            assert next(events)["event"] == "resync"


def test_client_that_reads_too_slowly_is_told_to_read_the_whole_state() -> None:
    service, machines = small_service()
    feed = service.feed
    feed.ring = EventRing(most_events=3)
    position = msgspec.json.decode(feed.cluster())["stream"]

    async def read() -> list[bytes]:
        stream = frames(feed, position, most_seconds=0.2)
        received = [await anext(stream)]  # its sign of life; then it reads nothing for a while
        for number in range(6):
            machines.bind(pod(1, name=f"p{number}"), "hgx-h100-0", service.store)
            feed.refresh()
        received += [frame async for frame in stream]
        return received

    kinds = [frame.split(b"event: ", 1)[1].split(b"\n", 1)[0] for frame in asyncio.run(read())]
    assert kinds[:2] == [b"age", b"resync"]
    assert kinds[-1] == b"end"
    assert b"nodes" not in kinds


def test_change_that_is_too_large_for_one_event_becomes_resync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_feed, "MOST_FRAME_BYTES", 300)
    service, machines = small_service()
    service.feed.refresh()
    machines.bind(pod(1), "t4-0", service.store)
    service.feed.refresh()
    (event,) = service.feed.ring.after(0) or ()
    assert b"event: resync" in event.frame


def test_further_client_is_answered_503_and_admitted_once_another_leaves() -> None:
    service, _ = small_service(max_streams=1)
    with served_debug(service) as client:
        with following(client) as events:
            next(events)
            refused = client.get("/v1/stream")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert "server.max_streams" in refused.json()["error"]
        wait("the client has left", lambda: service.feed.clients == 0)
        with following(client) as events:
            assert next(events)["event"] == "resync"


def test_client_that_takes_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection's buffers are full: the stream ends after a time, and its place is free."""
    monkeypatch.setattr(event_stream, "SEND_SECONDS", 0.3)
    service, _ = small_service()
    with running(debug_server_for(service, "127.0.0.1", 0)) as url:
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while b"resync" not in received:  # from here on it has a position, and is sent what comes after it
                received += connection.recv(4096)
            frame = b"event: nodes\ndata: " + b"x" * (1 << 20) + b"\n\n"
            for number in range(1, 15):
                service.feed.ring.add(number, frame)
            service.feed.ring.wake()
            wait("the client is gone", lambda: service.feed.clients == 0)


def test_stop_of_the_server_ends_streams_at_once() -> None:
    service, _ = small_service()
    with httpx.Client(timeout=20) as client, running(debug_server_for(service, "127.0.0.1", 0)) as url:
        response = client.send(client.build_request("GET", f"{url}/v1/stream"), stream=True)
        events = frames_in(response.iter_lines())
        assert next(events)["event"] == "resync"
        service.feed.close()
        assert [frame["data"] for frame in events if frame["event"] == "end"] == [{"why": "the server stops"}]
        response.close()


def test_stream_ends_after_its_time_and_says_so() -> None:
    service, _ = small_service()

    async def read() -> list[bytes]:
        return [frame async for frame in frames(service.feed, None, most_seconds=0.05)]

    last = asyncio.run(asyncio.wait_for(read(), 10))[-1]
    assert last.startswith(b"event: end\n")
    assert b"connect again" in last


def test_names_from_the_cluster_are_data_in_every_answer() -> None:
    """A line break in a name would end an event of the stream; JSON escapes it."""
    evil = "<img src=x onerror=alert(1)>\n\nevent: nodes\ndata: {}"
    service, _ = small_service()
    service.feed.refresh()
    service.store.apply((seen("Node", node(evil, 4)),))
    service.feed.refresh()
    (event,) = service.feed.ring.after(0) or ()
    assert event.frame.count(b"\n\n") == 1
    with served_debug(service) as client:
        answer = client.get("/v1/cluster")
        assert answer.headers["content-type"] == "application/json"
        assert evil in [row["name"] for row in answer.json()["nodes"]]


def test_history_keeps_its_newest_samples_and_counts_what_fits() -> None:
    history = ClusterHistory(every_seconds=10.0, kept_seconds=30.0)
    service, machines = small_service()
    machines.bind(pod(5), "hgx-h100-0", service.store)
    rows = service.feed.rows()
    for number in range(5):
        assert history.is_due(10.0 * number)
        history.add(sample_of(rows, Totals(nodes=3), 0, float(number)), 10.0 * number)
        assert not history.is_due(10.0 * number + 9)
    kept = history.answer()
    assert [sample.at_seconds for sample in kept.samples] == [2.0, 3.0, 4.0]
    assert set(kept.samples[0].fits) == set(map(str, SIZES))
    assert kept.samples[0].fits == {"1": 3 + 8, "2": 1 + 4, "4": 2, "8": 0}


def test_replicas_of_shared_gpus_and_mig_devices_fit_no_pod_of_several_gpus() -> None:
    service, _ = small_service()
    time_sliced = node("time-sliced", 40, "Tesla-T4-SHARED", 15360, {"nvidia.com/gpu.count": "4", "nvidia.com/gpu.replicas": "10"})
    divided = node("divided", 56, "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 9728, {"nvidia.com/mig.strategy": "single"})
    before = sample_of(service.feed.rows(), Totals(), 0, 0.0).fits
    service.store.apply((seen("Node", time_sliced), seen("Node", divided)))
    service.feed.refresh()
    after = sample_of(service.feed.rows(), Totals(), 0, 0.0).fits
    assert after == {**before, "1": before["1"] + 40 + 56}


def test_served_history_has_a_first_sample_soon_after_the_start() -> None:
    service, _ = small_service()
    with served_debug(service) as client:
        wait("a sample", lambda: client.get("/v1/history").json()["samples"])
        sample = client.get("/v1/history").json()["samples"][0]
    assert (sample["gpus"], sample["free"], sample["slots"]) == (16, 16, None)


def test_many_requests_for_the_cluster_compare_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_feed, "FRESH_SECONDS", 60.0)
    service, machines = small_service()
    service.feed.cluster()
    machines.bind(pod(1), "t4-0", service.store)
    first = [service.feed.cluster() for _ in range(3)]
    assert all(b'"taken":0' in answer for answer in first)
    service.feed.refresh()
    assert b'"taken":1' in service.feed.cluster()
