"""Holders from a real gRPC server, publishing to an API server that fails, and the loop that joins them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from extender.agent import serve_state
from extender.errors import SettingsError
from tests.agent.fake_nvml import FakeNvml
from tests.agent.kubelet import Kubelet
from topology.agent import nvml
from topology.agent.gather import Gathered, gather
from topology.agent.loop import Agent, State, allocations, read_hardware, record_of
from topology.agent.nvml import LOST, NvmlUnavailableError, read_driver
from topology.agent.pod_resources import Holding, PodResources, PodResourcesError
from topology.agent.publisher import ApiError, Publisher
from topology.agent.sysfs import Sysfs
from topology.hardware import Machine, MigInstance
from topology.platforms import machine_of
from topology.record import Allocation, TopologyRecord, decode

GPU = "nvidia.com/gpu"


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    kubelet = Kubelet(tmp_path / "kubelet.sock")
    yield kubelet
    kubelet.close()


def machine() -> Machine:
    return machine_of("t4", "t4")


def test_holdings_come_with_ids_and_numa_nodes(kubelet: Kubelet) -> None:
    kubelet.held = {
        ("team", "llm", "server"): {GPU: ["GPU-t4-1", "GPU-t4-3"]},
        ("team", "shared", "c"): {"nvidia.com/gpu.shared": ["GPU-t4-0::2"]},
    }
    kubelet.offered = {GPU: ["GPU-t4-0", "GPU-t4-1"]}
    client = PodResources(kubelet.socket)
    assert client.list() == (
        Holding("team", "llm", "server", GPU, ("GPU-t4-1", "GPU-t4-3"), (1,)),
        Holding("team", "shared", "c", "nvidia.com/gpu.shared", ("GPU-t4-0::2",), (1,)),
    )
    assert client.allocatable()[0].device_ids == ("GPU-t4-0", "GPU-t4-1")


def test_a_kubelet_that_is_not_there_or_refuses_is_one_error(kubelet: Kubelet, tmp_path: Path) -> None:
    with pytest.raises(PodResourcesError, match="no such socket"):
        PodResources(tmp_path / "nothing.sock").list()
    kubelet.failing = True
    with pytest.raises(PodResourcesError, match="UNAVAILABLE: the device manager is not ready"):
        PodResources(kubelet.socket).list()


def held(*devices: str) -> tuple[Holding, ...]:
    return (Holding("team", "llm", "c", GPU, devices),)


# name -> (devices held, indices taken)
TAKEN = {
    "whole GPUs": (("GPU-t4-1", "GPU-t4-3"), [1, 3]),
    "replicas of one GPU": (("GPU-t4-2::0", "GPU-t4-2::5"), [2]),
    "a MIG instance": (("MIG-x",), [0]),
    "a shared MIG instance": (("MIG-x::1",), [0]),
    "a device of somebody else": (("mlx5_0",), []),
}


@pytest.mark.parametrize("case", TAKEN)
def test_devices_become_gpus(case: str) -> None:
    devices, indices = TAKEN[case]
    split = machine()
    split = replace(split, gpus=(replace(split.gpus[0], mig_instances=(MigInstance("MIG-x", "1g.5gb"),)), *split.gpus[1:]))
    assert allocations(split, held(*devices)) == tuple(Allocation(index, None, "team", "llm") for index in indices)


def test_what_the_plugin_does_not_offer_is_not_to_be_used(kubelet: Kubelet) -> None:
    kubelet.offered = {GPU: ["GPU-t4-0", "GPU-t4-1", "GPU-t4-3"]}
    record = record_of("n", Gathered(machine()), (), PodResources(kubelet.socket).allocatable(), 0.0)
    assert record.status is not None
    assert record.status.unhealthy == ((2, "the device plugin does not offer it"),)
    assert record.status.free == (0, 1, 3)


def test_without_the_kubelet_nothing_is_claimed_about_holders() -> None:
    status = record_of("n", Gathered(machine()), None, None, 0.0).status
    assert status is not None
    assert (status.free, status.allocated) == (None, ())


class Server:
    """An API server: objects by path, and what is wrong with it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/api/v1/nodes/n": {"metadata": {"uid": "node-uid"}}}
        self.writes: list[str] = []
        self.down = False
        self.refusal: ApiError | None = None

    def get(self, path: str) -> dict[str, Any]:
        self._check()
        if path not in self.objects:
            raise ApiError(404, f"{path} not found")
        return self.objects[path]

    def apply(self, path: str, manifest: dict[str, Any], field_manager: str) -> dict[str, Any]:
        self._check()
        assert field_manager == "fabricwise-agent"
        root = path.removesuffix("/status")
        if path.endswith("/status") and root not in self.objects:
            raise ApiError(404, f"{root} not found")
        part = "status" if path.endswith("/status") else "spec"
        self.objects[root] = self.objects.get(root, {}) | {
            "metadata": manifest["metadata"] | self.objects.get(root, {}).get("metadata", {})
        }
        self.objects[root][part] = manifest[part]
        self.writes.append(part)
        return self.objects[root]

    def _check(self) -> None:
        if self.down:
            raise ApiError(0, "connection refused")
        if self.refusal:
            raise self.refusal


PATH = "/apis/fabricwise.dev/v1alpha1/gputopologies/n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An agent with a fake driver, a real kubelet socket, and a server that can fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kubelet: Kubelet, folder: Path) -> None:
        self.fake, self.server, self.clock, self.kubelet = FakeNvml(machine_of("t4")), Server(), Clock(), kubelet
        monkeypatch.setattr(nvml, "pynvml", self.fake)
        publisher = Publisher(self.server, "n", 60.0, self.clock, random.Random(1))
        kernel = Sysfs(folder)
        self.agent = Agent("n", lambda: gather(read_driver(), kernel), PodResources(kubelet.socket), publisher, 5.0, 20.0, self.clock)

    def after(self, seconds: float) -> TopologyRecord:
        self.clock.now += seconds
        return self.agent.round()

    @property
    def published(self) -> TopologyRecord:
        return decode({**self.server.objects[PATH], "metadata": {"name": "n"}})


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, kubelet: Kubelet, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, kubelet, tmp_path)


def test_the_object_is_owned_by_its_node_and_written_only_when_it_changes(bench: Bench) -> None:
    bench.after(0)
    assert bench.server.writes == ["spec", "status"]
    assert bench.server.objects[PATH]["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node-uid"}
    ]
    bench.after(5)
    assert len(bench.server.writes) == 2, "nothing new"
    bench.kubelet.held = {("team", "llm", "c"): {GPU: ["GPU-00000001"]}}
    bench.after(5)
    assert bench.server.writes[2:] == ["status"]
    assert bench.published.status is not None
    assert bench.published.status.allocated == (Allocation(1, None, "team", "llm"),)
    assert bench.published.status.free == (0, 2, 3)


def test_a_heartbeat_renews_what_was_observed(bench: Bench) -> None:
    bench.after(0)
    before = bench.published.status
    bench.after(80)
    after = bench.published.status
    assert bench.server.writes == ["spec", "status", "status"]
    assert before is not None
    assert after is not None
    assert (after.observed_at_seconds or 0) - (before.observed_at_seconds or 0) == pytest.approx(80)


def test_an_outage_of_a_minute_loses_nothing(bench: Bench) -> None:
    bench.after(0)
    bench.server.down = True
    bench.kubelet.held = {("team", "one", "c"): {GPU: ["GPU-00000001"]}}
    for _ in range(6):
        bench.after(5)
    assert bench.agent.state.publish_error == "connection refused"
    bench.kubelet.held = {("team", "two", "c"): {GPU: ["GPU-00000002"]}}
    for _ in range(6):
        bench.after(5)
    bench.server.down = False
    for _ in range(13):  # within the longest pause
        bench.after(5)
    assert bench.published.status is not None
    assert bench.published.status.allocated == (Allocation(2, None, "team", "two"),)
    assert bench.agent.state.publish_error is None


def test_failures_are_retried_with_growing_pauses(bench: Bench) -> None:
    bench.server.down = True
    tries = 0
    for _ in range(300):
        before = bench.agent._publisher._failures  # type: ignore[union-attr]
        bench.after(1)
        tries += bench.agent._publisher._failures > before  # type: ignore[union-attr]
    assert 7 <= tries <= 16, "about one a minute at the end, not one a second"


def test_an_object_that_was_deleted_is_made_anew(bench: Bench) -> None:
    bench.after(0)
    del bench.server.objects[PATH]
    bench.server.objects["/api/v1/nodes/n"]["metadata"]["uid"] = "another"
    for _ in range(30):
        bench.after(5)
    assert bench.server.objects[PATH]["metadata"]["ownerReferences"][0]["uid"] == "another"
    assert "spec" in bench.server.objects[PATH]


def test_a_lost_gpu_is_published_as_unhealthy(bench: Bench) -> None:
    bench.after(0)
    bench.fake.dying = {2}
    bench.after(25)
    status = bench.published.status
    assert status is not None
    assert status.unhealthy == ((2, LOST),)
    assert status.free == (0, 1, 3)
    bench.fake.dying = set()
    bench.after(25)
    assert bench.published.status is not None
    assert bench.published.status.unhealthy == ()


def test_a_socket_that_goes_away_leaves_hardware_and_no_claims(bench: Bench) -> None:
    bench.kubelet.held = {("team", "llm", "c"): {GPU: ["GPU-00000001"]}}
    bench.after(0)
    bench.kubelet.failing = True
    bench.after(5)
    status = bench.published.status
    assert status is not None
    assert (status.free, status.allocated) == (None, ())
    assert "UNAVAILABLE" in (bench.agent.state.kubelet_error or "")
    bench.kubelet.failing = False
    bench.after(5)
    assert bench.published.status is not None
    assert bench.published.status.allocated


def test_a_driver_that_is_being_replaced_keeps_the_last_hardware(bench: Bench) -> None:
    bench.after(0)
    bench.fake.absent = True
    assert len(bench.after(25).machine.gpus) == 4
    assert "NVML cannot be started" in (bench.agent.state.hardware_error or "")
    bench.fake.absent = False
    bench.after(25)
    assert bench.agent.state.hardware_error is None


def test_no_gpu_is_a_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvml, "pynvml", FakeNvml(machine_of("t4"), absent=True))
    with pytest.raises(NvmlUnavailableError):
        read_hardware(Sysfs(tmp_path), allow_no_gpu=False)
    assert read_hardware(Sysfs(tmp_path), allow_no_gpu=True).machine.gpus == ()


def test_health_and_metrics_of_the_agent_itself() -> None:
    state = State()
    server = serve_state(state, 5.0, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        assert httpx.get(f"{url}/healthz").status_code == 503
        assert httpx.get(f"{url}/readyz").status_code == 503
        import time

        state.rounds, state.last_round_seconds, state.gpus = 3, time.time(), 8
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        assert httpx.get(f"{url}/readyz").status_code == 200
        state.publish_error = "403 forbidden"
        assert httpx.get(f"{url}/readyz").text == "403 forbidden\n"
        metrics = httpx.get(f"{url}/metrics").text
        assert "fabricwise_agent_gpus 8.0" in metrics
        assert 'fabricwise_agent_failing{part="publish"} 1.0' in metrics
        assert httpx.get(f"{url}/else").status_code == 404
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_in_use_is_named() -> None:
    server = serve_state(State(), 5.0, "127.0.0.1", 0)
    try:
        with pytest.raises(SettingsError, match="cannot serve health and metrics on"):
            serve_state(State(), 5.0, "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
