"""Whole Nodes in ExtenderArgs (Cluster Autoscaler, `nodeCacheCapable: false`): one that the watch does not know is judged as sent."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.state.changes import Listed
from extender.kube.objects.decode import seen
from extender.sources.simulated_dra import class_manifest
from tests.conftest import Served
from tests.dra.dra_objects import bare_node
from tests.objects import node, pod

H100 = {"nvidia.com/gpu.count": "8"}


def asked(served: Served, verb: str, *nodes: dict[str, Any], gpus: int = 8) -> Any:
    """The answer to a call with whole nodes."""
    return served.client.post(f"/scheduler/{verb}", json={"Pod": pod(gpus), "Nodes": {"items": list(nodes)}, "NodeNames": None}).json()


def new_node(name: str = "template-1", gpus: int = 8) -> dict[str, Any]:
    """A node that an autoscaler would add."""
    return node(name, gpus, "NVIDIA-H100-80GB-HBM3", 81559, H100)


@pytest.mark.parametrize(("gpus", "passes"), [(8, True), (9, False)])
def test_node_unknown_to_the_watch_is_judged_by_the_object_sent(served: Served, gpus: int, passes: bool) -> None:
    answer = asked(served, "filter", new_node(), gpus=gpus)
    assert [one["metadata"]["name"] for one in answer["Nodes"]["items"]] == (["template-1"] if passes else [])
    assert answer["FailedAndUnresolvableNodes"] == ({} if passes else {"template-1": "node has fewer GPUs than the pod requests"})


def test_node_sent_is_scored_by_the_platform_that_its_labels_stand_for(served: Served) -> None:
    answer = asked(served, "prioritize", new_node(), {**new_node("t4-0"), "metadata": {"name": "t4-0"}}, gpus=2)
    scores = {entry["Host"]: entry["Score"] for entry in answer}
    assert scores["template-1"] > scores["t4-0"]


def test_node_that_the_watch_knows_is_judged_by_the_watch(served: Served) -> None:
    answer = asked(served, "filter", new_node("t4-0"))
    assert answer["FailedAndUnresolvableNodes"] == {"t4-0": "node has fewer GPUs than the pod requests"}


def test_node_sent_leaves_nothing_behind(served: Served) -> None:
    asked(served, "filter", new_node())
    assert "template-1" not in served.service.store.snapshot.views
    answer = served.client.post("/scheduler/filter", json={"Pod": pod(8), "NodeNames": ["template-1"]}).json()
    assert answer["FailedNodes"] == {"template-1": "node is not yet known to fabricwise"}


def test_node_sent_whose_gpus_a_device_class_serves_is_unknown_and_passes(served: Served) -> None:
    served.service.store.apply((Listed("deviceclasses", (seen("DeviceClass", class_manifest()),)),))
    assert [one["metadata"]["name"] for one in asked(served, "filter", bare_node("template-1"))["Nodes"]["items"]] == ["template-1"]


def test_node_sent_that_cannot_be_read_is_not_known_and_the_others_are_judged(served: Served) -> None:
    bad = {"metadata": {"name": "bad"}, "status": {"allocatable": 7}}
    answer = asked(served, "filter", new_node(), bad)
    assert [one["metadata"]["name"] for one in answer["Nodes"]["items"]] == ["template-1"]
    assert answer["FailedNodes"] == {"bad": "node is not yet known to fabricwise"}
