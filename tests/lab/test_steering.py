"""Device steering on a real kubelet with NVIDIA's real plugin: `make lab-test`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import wait_for
from tests.lab import binaries
from tests.lab.kills import burst
from tests.lab.lab import Lab, container, pod
from tests.lab.sequences import allocate, summary

GIB = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def started(folder: Path, *arguments: object) -> Iterator[Lab]:
    lab = Lab(folder, binaries.find(), *arguments)  # type: ignore[arg-type]
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(params=["dgx-1v", "a100-pcie-bridge-pairs", "hgx-h100"])
def lab(request: pytest.FixtureRequest, folder: Path) -> Iterator[Lab]:
    yield from started(folder, request.param)


@pytest.fixture(params=["restricted", "single-numa-node"])
def aligned(request: pytest.FixtureRequest, folder: Path) -> Iterator[Lab]:
    yield from started(folder, "a100-pcie-bridge-pairs", request.param)


@pytest.fixture
def crowded(folder: Path) -> Iterator[Lab]:
    yield from started(folder, "a100-pcie-bridge-pairs", "none", True, {0: 60 * GIB})


@pytest.fixture
def bridged(folder: Path) -> Iterator[Lab]:
    yield from started(folder, "a100-pcie-bridge-pairs")


def test_every_pod_gets_the_predicted_devices(lab: Lab) -> None:
    outcomes = allocate(lab, 30, seed=3)
    assert summary(outcomes)["as_predicted"] == 30, [one for one in outcomes if not one.is_as_predicted]


def test_every_pod_that_is_aligned_gets_the_predicted_devices(aligned: Lab) -> None:
    outcomes = [one for one in allocate(aligned, 30, seed=3) if one.is_placed]
    assert outcomes
    assert all(one.is_as_predicted for one in outcomes), [one for one in outcomes if not one.is_as_predicted]


def test_gpu_with_60_gib_of_an_unknown_process_is_handed_out_last(crowded: Lab) -> None:
    wait_for("the agent tells of the memory", lambda: crowded.node.topology()["status"]["steering"].get("unknownMemory"))
    uids = []
    for number in range(8):
        uids.append(crowded.create(pod(f"one-{number}", [container("main", 1)])))
        crowded.wait_pod(f"one-{number}", lambda found: found["status"].get("phase") == "Running")
    held = crowded.node.held()
    assert [sorted(held[uid]["main"]) for uid in uids][-1] == [0]


@pytest.fixture
def alone(folder: Path) -> Iterator[Lab]:
    yield from started(folder, "a100-pcie-bridge-pairs", "none", True, None, False)


@pytest.mark.parametrize("fault", ["worker", "steerer"])
def test_no_pod_fails_and_no_gpu_is_away_when_a_process_of_the_only_steerer_is_killed(alone: Lab, fault: str) -> None:
    outcome = burst(alone, fault, kills=2)
    assert outcome.failed == ()
    assert outcome.gap_seconds == ()


@pytest.mark.parametrize("fault", ["worker", "steerer", "container"])
def test_no_pod_fails_and_no_gpu_is_away_when_the_steerers_container_or_a_process_in_it_ends(bridged: Lab, fault: str) -> None:
    outcome = burst(bridged, fault, kills=2)
    assert outcome.failed == ()
    assert outcome.gap_seconds == ()


@pytest.mark.parametrize("fault", ["worker", "steerer", "container", "plugin", "kubelet"])
def test_node_offers_all_gpus_and_predicts_again_after_a_kill(bridged: Lab, fault: str) -> None:
    burst(bridged, fault, kills=1)
    outcomes = allocate(bridged, 5, seed=4)
    assert summary(outcomes)["as_predicted"] == 5, [one for one in outcomes if not one.is_as_predicted]
