"""The bounds of a GpuTopology: what a real API server accepts is what the decoder accepts, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.crd_bounds import cases, full_manifest
from topology.hardware import TopologyError
from topology.record import decode

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
