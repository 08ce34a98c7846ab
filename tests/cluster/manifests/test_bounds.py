"""The bounds of a GpuTopology: what a real API server accepts is what the decoder accepts, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.processes.control_plane import ControlPlane, Extender
from tests.objects import node, pod, topology
from tests.topology.crd_bounds import cases, full_manifest
from topology.gputopology.manifest_decoding import decode
from topology.machine.hardware import TopologyError

pytestmark = pytest.mark.cluster

OBJECTS = "/apis/fabricwise.dev/v1alpha1/gputopologies"


def _server_accepts(plane: ControlPlane, manifest: dict[str, Any], version: str) -> bool:
    """Whether the API server would store the manifest: the spec with its object, the status through the subresource."""
    whole = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
    answers = [
        plane.client.put(f"{OBJECTS}/bounds{part}", params={"dryRun": "All", "fieldValidation": "Strict"}, json=whole)
        for part in ("", "/status")
    ]
    assert all(answer.status_code in (200, 400, 422) for answer in answers), [answer.text for answer in answers]
    return all(answer.status_code == 200 for answer in answers)


def _decoder_accepts(manifest: dict[str, Any]) -> bool:
    try:
        decode(manifest)
    except TopologyError:
        return False
    return True


def test_api_server_and_decoder_accept_the_same_boundary_values(plane: ControlPlane) -> None:
    base = full_manifest()
    applied = plane.apply({**base, "status": {}})
    try:
        version = applied["metadata"]["resourceVersion"]
        found = {name: (_server_accepts(plane, manifest, version), _decoder_accepts(manifest)) for name, manifest in cases()}
    finally:
        plane.client.delete(f"{OBJECTS}/bounds")
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}, "(server accepts, decoder accepts)"
    assert {pair[0] for pair in found.values()} == {True, False}


def test_objects_that_the_api_server_accepts_and_the_decoder_does_not_harm_no_other_node(plane: ControlPlane) -> None:
    """A topology that contradicts itself and a pod whose model overflows: both are named, and pods still find the other node."""
    good, bad = topology("iso-good", "hgx-h100"), topology("iso-bad", "hgx-h100")
    bad["spec"]["nvlinks"] = ["0 0 0 0 0 0 0 1", *bad["spec"]["nvlinks"][1:]]
    overflowing = pod(1, name="iso-overflow", annotations={"fabricwise.dev/model": _MODEL})
    overflowing["metadata"] |= {"namespace": "default"}
    overflowing["spec"]["containers"][0]["image"] = "vllm/vllm-openai"
    del overflowing["metadata"]["uid"]
    nodes = [node(name) for name in ("iso-good", "iso-bad")]
    for manifest in (*nodes, good, bad, overflowing):
        plane.apply(manifest)
    for manifest in nodes:
        plane.apply(manifest, "status")
    extender = Extender(plane, "isolation")
    try:
        extender.wait_ready()
        rows = {row["node"]: row for row in extender.client.get("/v1/nodes").json()["nodes"]}
        assert "nvlinks is not symmetric" in rows["iso-bad"]["problem"]
        assert rows["iso-good"]["topology"].startswith("topology from GpuTopology")
        names = ["iso-bad", "iso-good"]
        asked = extender.client.post("/scheduler/filter", json={"Pod": pod(8), "NodeNames": names}).json()
        assert asked["NodeNames"] == names, "the one by its links, the other by counts"
        asked = extender.client.post("/scheduler/filter", json={"Pod": overflowing, "NodeNames": names}).json()
        assert set(asked["FailedAndUnresolvableNodes"].values()) == {"pod annotation fabricwise.dev/model is malformed"}
    finally:
        extender.close()
        for manifest in (*nodes, good, bad):
            plane.client.delete(plane.path(manifest))
        plane.client.delete("/api/v1/namespaces/default/pods/iso-overflow", params={"gracePeriodSeconds": 0})


_MODEL = (
    '{"layers": 80, "hidden_size": 8192, "attention_heads": 64, "kv_heads": 8, "head_size": 128, "parameters": 70000000000,'
    ' "weight_bytes": 1e308}'
)
