"""The law of the stream: the cluster at one time and the events since then are the cluster now."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.state.changes import NodeGone
from extender.errors import ClusterSourceError
from extender.kube.objects.decode import seen
from extender.server.service import Service
from extender.sources.simulated import SimulatedCluster
from tests.objects import node, pod
from tests.web.live_clusters import small_service

NODES = ("t4-0", "t4-1", "hgx-h100-0")

STEPS = st.one_of(
    st.tuples(st.just("bind"), st.sampled_from(NODES), st.integers(1, 3)),
    st.tuples(st.just("label"), st.sampled_from(NODES), st.integers(0, 2)),
    st.tuples(st.just("gone"), st.sampled_from(NODES), st.just(0)),
    st.tuples(st.just("fault"), st.sampled_from(NODES), st.integers(0, 3)),
    st.tuples(st.just("look"), st.just(""), st.just(0)),
)


def take(step: tuple[str, str, int], number: int, service: Service, machines: SimulatedCluster) -> None:
    """Let one thing happen to the cluster; `look` is a refresh of the feed."""
    what, name, value = step
    store = service.store
    if what == "look":
        service.feed.refresh()
    elif what == "gone":
        store.apply((NodeGone(name),))
    elif what == "label":
        store.apply((seen("Node", node(name, len(machines.machines[name].gpus), labels={"topology.kubernetes.io/zone": f"z{value}"})),))
    elif what == "fault":
        machines.xid(name, value, 79)
        store.apply(machines.telemetry(float(number + 1)))
    else:
        with suppress(ClusterSourceError):  # where it has no room nothing happens
            machines.bind(pod(value, name=f"p{number}"), name, store)


def applied(cluster: dict[str, Any], frames: list[bytes]) -> dict[str, Any]:
    """The cluster of a client that has read these events, as docs/web-ui.md says it must treat them."""
    rows = {row["name"]: row for row in cluster["nodes"]}
    totals = cluster["totals"]
    for frame in frames:
        event = json.loads(frame.split(b"\ndata: ", 1)[1])
        rows |= {row["name"]: row for row in event["changed"]}
        for name in event["removed"]:
            del rows[name]
        totals = event["totals"]
    return {"nodes": [rows[name] for name in sorted(rows)], "totals": totals}


@given(st.lists(STEPS, max_size=14), st.integers(0, 14))
@settings(max_examples=30)
def test_cluster_and_the_events_since_are_the_cluster_now(steps: list[tuple[str, str, int]], read_after: int) -> None:
    service, machines = small_service()
    feed = service.feed
    feed.refresh()
    for number, step in enumerate(steps[:read_after]):
        take(step, number, service, machines)
    feed.refresh()
    first = json.loads(feed.cluster())
    for number, step in enumerate(steps[read_after:], read_after):
        take(step, number, service, machines)
    feed.refresh()
    events = feed.ring.after(first["sequence"])
    assert events is not None
    now = json.loads(feed.cluster())
    assert applied(first, [event.frame for event in events]) == {"nodes": now["nodes"], "totals": now["totals"]}
