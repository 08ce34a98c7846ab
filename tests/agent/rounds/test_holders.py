"""Which pod holds which GPU: the kubelet's answers from a real gRPC server, and what the agent makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.agent.fake_kubelet import Kubelet
from tests.agent.rounds.agent_bench import GPU, machine
from topology.agent.gather import Gathered
from topology.agent.loop import allocations, topology_record
from topology.agent.pod_resources import AllocatedDevices, PodResources, PodResourcesError
from topology.gputopology.topology_record import Allocation
from topology.machine.hardware import MigInstance


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
    "a device of another driver": (("mlx5_0",), []),
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
