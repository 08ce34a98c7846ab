"""What the benchmark's API server lists and streams is what Fabricwise reads from a real one."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from extender.decision.state.changes import Change, Listed, NodeSeen, PodGone, PodSeen, TopologySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import gone, seen
from tests.bench.clusters import GPU, LIST_VERSION, Cluster
from tests.bench.processes.api_process import Api, churn
from topology.gputopology.topology_record import TopologyRecord

CLUSTER = Cluster(nodes=60, states=40, pods=100, platforms=("l4", "t4"))


def listed(cluster: Cluster, page_size: int = 7) -> list[Listed]:
    """Every kind, read page by page."""
    api, lists = Api(cluster), []
    for kind, listed_as in ((resource.kind, resource.listed_as) for resource in api.served):
        start, changes = 0, []
        while True:
            page = json.loads(api.page(listed_as, start, page_size))
            changes += [seen(kind, item) for item in page["items"]]
            assert int(page["metadata"]["resourceVersion"]) == LIST_VERSION
            if "continue" not in page["metadata"]:
                break
            start = int(page["metadata"]["continue"])
        lists.append(Listed(listed_as, tuple(changes), LIST_VERSION))
    return lists


def folded(cluster: Cluster) -> Snapshot:
    """The state after all lists."""
    return fold_all(Snapshot(), listed(cluster), GPU)


def test_lists_decode_and_have_every_object_once() -> None:
    by_kind = {one.kind: one.changes for one in listed(CLUSTER)}
    assert len({change.node.metadata.name for change in by_kind["nodes"] if isinstance(change, NodeSeen)}) == CLUSTER.nodes
    assert len({change.pod.key for change in by_kind["pods"] if isinstance(change, PodSeen)}) == CLUSTER.pods
    records = [change.record for change in by_kind["topologies"] if isinstance(change, TopologySeen)]
    assert len(records) == CLUSTER.nodes
    assert all(isinstance(record, TopologyRecord) for record in records)


@pytest.mark.parametrize("states", [1, 10, 40])
def test_cluster_has_the_chosen_number_of_distinct_node_states(states: int) -> None:
    snapshot = folded(Cluster(nodes=80, states=states))
    assert len({view.state for view in snapshot.views.values()}) == pytest.approx(states, rel=0.1)
    assert snapshot.synced


def test_allocated_gpus_are_those_of_the_listed_gpu_pods() -> None:
    snapshot = folded(CLUSTER)
    assert not any(view.disagreements for view in snapshot.views.values())


def test_events_decode_with_growing_versions_and_leave_few_pods() -> None:
    snapshot, version, kinds = folded(CLUSTER), LIST_VERSION, set()
    for line in islice(churn(CLUSTER), 1000):
        event = json.loads(line)
        assert int(event["object"]["metadata"]["resourceVersion"]) > version
        version = int(event["object"]["metadata"]["resourceVersion"])
        change: Change = gone("Pod", event["object"]) if event["type"] == "DELETED" else seen("Pod", event["object"])
        assert isinstance(change, PodSeen | PodGone)
        kinds.add(event["type"])
        snapshot = fold_all(snapshot, (change,), GPU)
    assert kinds == {"ADDED", "MODIFIED", "DELETED"}
    assert len(snapshot.pods) <= CLUSTER.pods + 101
