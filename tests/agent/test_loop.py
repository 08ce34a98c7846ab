"""Holders from a real gRPC server, publishing to an API server that fails, and the loop that joins them."""

from __future__ import annotations

import base64
import json
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from extender.errors import SettingsError
from extender.server.agent_process import NodeClaim, claimed_uid, node_claim, node_name, serve_state
from tests.agent.fake_nvml import FakeNvml
from tests.agent.kubelet import Kubelet
from topology.agent import nvml
from topology.agent.gather import Gathered, gather
from topology.agent.loop import Agent, State, allocations, read_hardware, topology_record
from topology.agent.nvml import LOST, NvmlUnavailableError, read_driver
from topology.agent.pod_resources import AllocatedDevices, PodResources, PodResourcesError
from topology.agent.publisher import ApiError, Publisher
from topology.agent.sysfs import Sysfs
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.topology_record import Allocation, TopologyRecord
from topology.machine.hardware import Machine, MigInstance, TopologyError
from topology.platforms import machine_of

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
        AllocatedDevices("team", "llm", "server", GPU, ("GPU-t4-1", "GPU-t4-3"), (1,)),
        AllocatedDevices("team", "shared", "c", "nvidia.com/gpu.shared", ("GPU-t4-0::2",), (1,)),
    )
    assert client.allocatable()[0].device_ids == ("GPU-t4-0", "GPU-t4-1")


def test_a_kubelet_that_is_not_there_or_refuses_is_one_error(kubelet: Kubelet, tmp_path: Path) -> None:
    with pytest.raises(PodResourcesError, match="no such socket"):
        PodResources(tmp_path / "nothing.sock").list()
    kubelet.failing = True
    with pytest.raises(PodResourcesError, match="UNAVAILABLE: the device manager is not ready"):
        PodResources(kubelet.socket).list()


def held(*devices: str) -> tuple[AllocatedDevices, ...]:
    return (AllocatedDevices("team", "llm", "c", GPU, devices),)


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
    record = topology_record("n", Gathered(machine()), (), PodResources(kubelet.socket).allocatable(), 0.0)
    assert record.status is not None
    assert record.status.unhealthy == ((2, "the device plugin does not offer it"),)
    assert record.status.free == (0, 1, 3)


def test_without_the_kubelet_nothing_is_claimed_about_holders() -> None:
    status = topology_record("n", Gathered(machine()), None, None, 0.0).status
    assert status is not None
    assert (status.free, status.allocated) == (None, ())


class Server:
    """An API server: objects by path, and what is wrong with it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/api/v1/nodes/n": {"metadata": {"uid": "node-uid"}}}
        self.writes: list[str] = []
        self.down = False
        self.node_refusal: ApiError | None = None
        self.write_refusal: ApiError | None = None

    def get(self, path: str) -> dict[str, Any]:
        self._check(self.node_refusal)
        if path not in self.objects:
            raise ApiError(404, f"{path} not found")
        return self.objects[path]

    def apply(self, path: str, manifest: dict[str, Any], field_manager: str) -> dict[str, Any]:
        self._check(self.write_refusal)
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

    def _check(self, refusal: ApiError | None) -> None:
        if self.down:
            raise ApiError(0, "connection refused")
        if refusal is not None:
            raise refusal


PATH = "/apis/fabricwise.dev/v1alpha1/gputopologies/n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An agent with a fake driver, a real kubelet socket, and a server that can fail. `clock` is monotonic, `wall` is Unix time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kubelet: Kubelet, folder: Path) -> None:
        self.fake, self.server, self.clock, self.kubelet = FakeNvml(machine_of("t4")), Server(), Clock(), kubelet
        self.wall = Clock()
        monkeypatch.setattr(nvml, "pynvml", self.fake)
        publisher = Publisher(self.server, "n", 60.0, self.clock, random.Random(1))
        kernel = Sysfs(folder)
        client = PodResources(kubelet.socket)
        self.agent = Agent("n", lambda: gather(read_driver(), kernel), client, publisher, 5.0, 20.0, clock=self.wall, monotonic=self.clock)

    def after(self, seconds: float) -> TopologyRecord:
        self.clock.now += seconds
        self.wall.now += seconds
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


def test_an_outage_of_days_ends_in_a_publication(bench: Bench) -> None:
    bench.server.down = True
    for _ in range(1200):  # 2.0 ** 1024 is no float
        bench.after(60)
    bench.server.down = False
    bench.after(60)
    assert bench.server.writes == ["spec", "status"]


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
    assert "UNAVAILABLE" in (status.allocations_unknown or "")
    assert {"freeCount", "best2Gbps", "best4Gbps"}.isdisjoint(bench.server.objects[PATH]["status"])
    assert "UNAVAILABLE" in (bench.agent.state.kubelet_error or "")
    bench.kubelet.failing = False
    bench.after(5)
    assert bench.published.status is not None
    assert bench.published.status.allocated
    assert bench.published.status.allocations_unknown is None
    assert bench.server.objects[PATH]["status"]["freeCount"] == 3


def test_allocations_are_known_where_the_kubelet_does_not_list_allocatable_devices(bench: Bench) -> None:
    bench.kubelet.held = {("team", "llm", "c"): {GPU: ["GPU-00000001"]}}
    bench.kubelet.without_allocatable = True
    bench.after(0)
    assert bench.published.status is not None
    assert bench.published.status.free == (0, 2, 3)
    assert bench.agent.state.problems() == ()


def test_heartbeats_and_hardware_readings_go_on_when_the_wall_clock_goes_back(bench: Bench) -> None:
    bench.after(0)
    bench.wall.now -= 3600
    bench.after(80)
    assert bench.server.writes == ["spec", "status", "status"]
    bench.fake.dying = {2}
    bench.after(25)
    assert bench.published.status is not None
    assert bench.published.status.unhealthy == ((2, LOST),)


def test_an_outage_ends_in_time_when_the_wall_clock_went_back(bench: Bench) -> None:
    bench.server.down = True
    bench.after(0)
    bench.wall.now -= 3600
    bench.server.down = False
    bench.after(61)
    assert bench.server.writes == ["spec", "status"]


class Faulty:
    """Hardware readings: one exception per entry of `errors`, then a machine of four T4. Stops the loop after `rounds` readings."""

    def __init__(self, errors: list[Exception], rounds: int) -> None:
        self.errors, self.left, self.state = errors, rounds, State()

    def __call__(self) -> Gathered:
        self.left -= 1
        if self.left <= 0:
            self.state.stop.set()
        if self.errors:
            raise self.errors.pop(0)
        return Gathered(machine())


def looping(kubelet: Kubelet, errors: list[Exception], rounds: int) -> Agent:
    """An agent that has run its loop, without pauses worth mentioning, until `rounds` readings of the hardware were made."""
    hardware = Faulty(errors, rounds)
    agent = Agent("n", hardware, PodResources(kubelet.socket), None, 0.001, 0.0)
    hardware.state = agent.state
    agent.run()
    return agent


ROUND_ERRORS: dict[str, tuple[Exception, str]] = {
    "no NVML": (NvmlUnavailableError("NVML cannot be started"), "NVML cannot be started"),
    "a bug": (KeyError("gpu"), "unexpected KeyError"),
    "the operating system": (OSError(5, "Input/output error"), "unexpected OSError"),
    "a machine that contradicts itself": (TopologyError("a machine has 0 to 16 GPUs, this one 17"), "this one 17"),
}


@pytest.mark.parametrize("case", ROUND_ERRORS)
def test_the_loop_goes_on_after_an_exception_and_is_ready_again(kubelet: Kubelet, case: str) -> None:
    error, _ = ROUND_ERRORS[case]
    agent = looping(kubelet, [error, error], 3)
    assert (agent.state.failed_rounds, agent.state.rounds) == (2, 1)
    assert agent.state.problems() == ()


@pytest.mark.parametrize("case", ROUND_ERRORS)
def test_a_loop_that_keeps_failing_is_not_ready_and_says_why(kubelet: Kubelet, case: str) -> None:
    error, words = ROUND_ERRORS[case]
    agent = looping(kubelet, [error, error, error], 3)
    assert (agent.state.failed_rounds, agent.state.rounds) == (3, 0)
    assert [words in problem for problem in agent.state.problems()] == [True]


def test_pauses_after_failed_rounds_grow_to_a_minute(kubelet: Kubelet) -> None:
    agent = Agent("n", Faulty([OSError()] * 9, 99), PodResources(kubelet.socket), None, 5.0, 0.0)
    assert [agent._guarded_round() for _ in range(10)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0, 60.0, 5.0]


def test_an_interrupt_ends_the_loop(kubelet: Kubelet) -> None:
    def interrupt() -> Gathered:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Agent("n", interrupt, PodResources(kubelet.socket), None, 5.0).run()


def test_an_object_is_published_without_an_owner_where_the_node_may_not_be_read(bench: Bench) -> None:
    bench.server.node_refusal = ApiError(403, 'nodes "n" is forbidden')
    bench.after(0)
    assert bench.server.objects[PATH]["metadata"]["ownerReferences"] == []
    assert bench.server.writes == ["spec", "status"]
    assert bench.agent.state.problems() == ()


def test_a_node_name_that_no_node_has_is_named_with_its_remedy(bench: Bench) -> None:
    del bench.server.objects["/api/v1/nodes/n"]
    bench.after(0)
    assert bench.server.writes == []
    problem = "\n".join(bench.agent.state.problems())
    assert problem.startswith("publish: there is no Node n: the agent's node name is wrong")
    assert "Set NODE_NAME from spec.nodeName" in problem


# name -> (what the API server answers to a write, what the agent says to do)
REFUSALS = {
    "no right": (ApiError(403, "gputopologies is forbidden: User cannot patch resource"), "kubectl apply -k manifests/agent"),
    "a token of another node": (
        ApiError(403, "an agent may write only the GpuTopology of its own node a, not of n"),
        "set NODE_NAME from spec.nodeName",
    ),
    "a token without a node": (
        ApiError(403, "an agent may write only the GpuTopology of its own node (its token names none), not of n"),
        "run the agent as a pod on Kubernetes 1.30 or later",
    ),
    "no CRD": (ApiError(404, "the server could not find the requested resource"), "kubectl apply -k manifests/crd"),
    "a token that is not accepted": (ApiError(401, "Unauthorized"), "does not accept the agent's token"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_is_published_with_its_own_remedy(bench: Bench, case: str) -> None:
    refusal, remedy = REFUSALS[case]
    bench.server.write_refusal = refusal
    bench.after(0)
    (problem,) = bench.agent.state.problems()
    assert str(refusal) in problem
    assert remedy in problem
    assert sum(other in problem for _, other in REFUSALS.values()) == 1


def token_file(folder: Path, claims: object) -> Path:
    """A file with an unsigned token of those claims."""
    path = folder / "token"
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)]
    path.write_text(".".join([*parts, "signature"]))
    return path


CLAIMS: dict[str, tuple[object, NodeClaim | None]] = {
    "bound to a pod": ({"kubernetes.io": {"node": {"name": "n", "uid": "u"}, "pod": {"name": "p"}}}, NodeClaim("n", "u")),
    "bound to a pod, before Kubernetes 1.30": ({"kubernetes.io": {"pod": {"name": "p", "uid": "u"}}}, None),
    "bound to a pod whose Node is not registered": ({"kubernetes.io": {"node": {"name": "n"}}}, NodeClaim("n", None)),
    "not bound": ({"sub": "system:serviceaccount:a:b"}, None),
    "a claim of another shape": ({"kubernetes.io": {"node": ["n", "u"]}}, None),
    "a claim with empty values": ({"kubernetes.io": {"node": {"name": "", "uid": ""}}}, None),
    "no object": ("text", None),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_the_node_of_a_token(case: str, tmp_path: Path) -> None:
    claims, claim = CLAIMS[case]
    path = token_file(tmp_path, claims)
    assert node_claim(path) == claim
    assert claimed_uid(path, "n") == (claim.uid if claim else None)


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", "a.////.c"])
def test_a_file_that_is_no_token_names_no_node(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    assert node_claim(tmp_path / "token") is None
    assert node_claim(tmp_path / "absent") is None


def test_the_node_name_is_that_given_then_that_of_the_environment_then_the_tokens_then_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = token_file(tmp_path, CLAIMS["bound to a pod"][0])
    monkeypatch.setenv("NODE_NAME", "of-the-environment")
    assert node_name("given", path) == "given"
    assert node_name(None, path) == "of-the-environment"
    monkeypatch.delenv("NODE_NAME")
    assert node_name(None, path) == "n"
    assert node_name(None, tmp_path / "absent") == socket.gethostname()


def test_a_token_of_a_pod_on_another_node_ends_the_agent_with_a_remedy(tmp_path: Path) -> None:
    path = token_file(tmp_path, CLAIMS["bound to a pod"][0])
    with pytest.raises(SettingsError, match="node name is other, but its token is of a pod on n: set NODE_NAME"):
        claimed_uid(path, "other")


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
        state.rounds, state.last_round_monotonic_seconds, state.gpus = 3, time.monotonic(), 8
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        assert httpx.get(f"{url}/readyz").status_code == 200
        state.publish_error = "403 forbidden"
        assert httpx.get(f"{url}/readyz").text == "publish: 403 forbidden\n"
        state.publish_error, state.kubelet_error = None, "no such socket"
        answer = httpx.get(f"{url}/readyz")
        assert (answer.status_code, answer.text) == (503, "kubelet: no such socket\n")
        assert httpx.get(f"{url}/healthz").status_code == 200, "a restart of the agent cures no kubelet"
        metrics = httpx.get(f"{url}/metrics").text
        assert "fabricwise_agent_gpus 8.0" in metrics
        assert 'fabricwise_agent_failing{part="publish"} 0.0' in metrics
        assert 'fabricwise_agent_failing{part="kubelet"} 1.0' in metrics
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
