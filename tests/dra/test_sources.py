"""Simulated clusters and dumps with nodes that Dynamic Resource Allocation serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.scheduling.cluster_store import ClusterStore
from extender.sources.dump import read_dump
from extender.sources.dump_fields import dump_fields
from extender.sources.simulated import SimulatedCluster, cluster_machines
from tests.dra.dra_objects import sets, verdict
from tests.objects import GPU, pod


def simulated() -> SimulatedCluster:
    return SimulatedCluster(cluster_machines({"hgx-h100": 1, "t4": 1}), dra=frozenset({"hgx-h100-0"}))


def test_simulated_cluster_allocates_as_predicted_on_a_dra_node() -> None:
    cluster, live = simulated(), ClusterStore(GPU, warm_tables=False)
    for listing in cluster.listing():
        live.apply((listing,))
    for number, size in enumerate((1, 2, 4)):
        asked = pod(size, name=f"p{number}")
        ((predicted, chance),) = sets(verdict(live.snapshot, asked, "hgx-h100-0"))
        assert cluster.bind(asked, "hgx-h100-0", live) == predicted
        assert chance == 1.0
    assert live.snapshot.views["hgx-h100-0"].state.free_count == 1
    assert live.snapshot.views["t4-0"].dra is None


def test_dump_of_a_dra_cluster_gives_the_same_verdicts(tmp_path: Path) -> None:
    cluster = simulated()
    cluster.bind(pod(2, name="other"), "hgx-h100-0")
    path = tmp_path / "dump.json"
    items = [dump_fields(one["kind"], one.get("apiVersion", "v1"), one) for one in cluster.manifests()]
    path.write_text(json.dumps({"kind": "List", "items": items}))
    dumped = fold_all(Snapshot(), read_dump(path).listed, GPU)
    direct = fold_all(Snapshot(), cluster.listing(), GPU)
    assert sets(verdict(dumped, pod(4), "hgx-h100-0")) == sets(verdict(direct, pod(4), "hgx-h100-0")) == [((2, 3, 4, 5), 1.0)]


def test_dump_keeps_no_configuration_of_classes_and_claims() -> None:
    claim: dict[str, Any] = {
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "spec": {"devices": {"config": [{"opaque": {"parameters": "secret"}}]}},
    }
    of_class: dict[str, Any] = {
        "kind": "DeviceClass",
        "metadata": {"name": "c"},
        "spec": {"config": [{"opaque": {"parameters": "secret"}}]},
    }
    told = [dump_fields(one["kind"], "resource.k8s.io/v1", one) for one in (claim, of_class)]
    assert "secret" not in yaml.safe_dump(told)
