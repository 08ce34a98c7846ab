"""What one unit of a resource is, on real and on similar nodes, and which pods may go there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extender.decision.node.node_state import NodeState
from extender.decision.state.changes import TelemetrySeen, TopologySeen
from extender.decision.state.fold.reducer import fold
from extender.decision.state.snapshot import Snapshot
from extender.loading import load_documents
from extender.telemetry.readings import DeviceReading
from tests.node_state.shared_nodes import offering, shared_node, slices
from tests.objects import GPU, node, pod, snapshot
from tests.pod_request.refusals import refusal
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine, MigInstance
from topology.platforms import machine_of

GIB = 1 << 30
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.memory": "40960"}
SPREADS_OVER_SHARED = ("pod needs whole GPUs that work together, the node's are shared or MIG", False)
NOT_ALLOWED = ("node shares its GPUs in a way the pod does not allow", False)


def state_of(*manifests: dict[str, Any]) -> NodeState:
    views = snapshot(*manifests).views
    return next(iter(views.values())).state


TSLICED = {"gpu__product": "Tesla-T4-SHARED", "gpu__sharing-strategy": "time-slicing"}
# name -> (node, sharing)
MODES: dict[str, tuple[dict[str, Any], str | None]] = {
    "whole": (shared_node(8, 8, gpu__product="Tesla-V100-SXM2-16GB"), "none"),
    "nothing said": (node("n", 8), None),
    "time-slicing by suffix": (shared_node(4, 1, gpu__product="Tesla-T4-SHARED"), "time-slicing"),
    "time-slicing by count alone": (shared_node(4, 1, gpu__product="Tesla-T4"), "time-slicing"),
    "time-slicing with a wrong replicas label": (shared_node(4, 1, gpu__product="Tesla-T4", gpu__replicas="1"), "time-slicing"),
    "a replicas label and no replicas": (shared_node(2, 2, gpu__product="Tesla-T4", gpu__replicas="4"), "none"),
    "MPS by its label": (shared_node(10, 1, gpu__product="Tesla-T4-SHARED", **{"sharing__mps__enabled": "true"}), "mps"),
    "MPS by strategy": (shared_node(10, 1, **{"gpu__sharing-strategy": "mps"}), "mps"),
    "strategy none": (shared_node(8, 8, **{"gpu__sharing-strategy": "none", "sharing__mps__enabled": "false"}), "none"),
    "MIG, single strategy": (
        shared_node(7, 7, gpu__product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", mig__strategy="single"), "mig"
    ),
    "MIG slices that are shared again": (shared_node(14, 7, gpu__product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED"), "time-slicing"),
}  # fmt: skip


@pytest.mark.parametrize("case", MODES)
def test_sharing_of_a_node_follows_from_labels_and_offer(case: str) -> None:
    manifest, sharing = MODES[case]
    assert state_of(manifest).sharing == sharing


def test_real_node_with_mixed_mig_offers_its_mig_devices(shared_data: Path) -> None:
    manifest = load_documents((shared_data / "nodes/node-a100-mig-mixed-3-instances.yaml").read_text(), "node")[0]
    name = manifest["metadata"]["name"]
    state = snapshot(manifest)
    found = state.views[name].state
    assert [(one.resource, one.sharing, one.allocatable, (one.memory_bytes or 0) >> 20) for one in found.slices] == [
        ("nvidia.com/mig-1g.5gb", "mig", 2, 4864), ("nvidia.com/mig-2g.10gb", "mig", 1, 9856),
    ]  # fmt: skip
    assert refusal(state, slices("nvidia.com/mig-1g.5gb", 1), name) is None
    assert refusal(state, slices("nvidia.com/mig-1g.5gb", 2), name) == SPREADS_OVER_SHARED
    assert refusal(state, slices("nvidia.com/mig-1g.5gb", 2, sharing="mig"), name) is None
    assert refusal(state, slices("nvidia.com/mig-1g.5gb", 1, min_gpu_memory="8Gi"), name) == ("GPU memory class too small", False), (
        "the slice's"
    )
    assert refusal(state, slices("nvidia.com/mig-3g.20gb", 1), name) == ("node has fewer GPUs than the pod requests", False)
    assert refusal(state, slices("nvidia.com/mig-2g.10gb", 1, sharing="none"), name) == NOT_ALLOWED
    assert refusal(state, pod(1), name) == ("node has fewer GPUs than the pod requests", False)


def test_real_node_of_whole_gpus_shares_none(shared_data: Path) -> None:
    labels = {k: v for k, v in json.loads((shared_data / "nodes/gfd-8xV100.json").read_text()).items() if not k.startswith("_")}
    assert state_of(node("n", 8, labels=labels)).sharing == "none"


# name -> (node, pod, refusal)
DEFAULT_POLICY: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, bool] | None]] = {
    "four replicas are not four GPUs": (shared_node(4, 1, **TSLICED), pod(4), SPREADS_OVER_SHARED),
    "two containers of one each are no tensor-parallel pod": (shared_node(4, 1, **TSLICED), pod(1, 1), None),
    "one GPU on time-slicing": (shared_node(4, 1, **TSLICED), pod(1), None),
    "one GPU, whole ones only": (shared_node(4, 1, **TSLICED), pod(1, annotations={"fabricwise.dev/sharing": "none"}), NOT_ALLOWED),
    "two replicas of one GPU, allowed, are still one GPU": (
        shared_node(4, 1, **TSLICED), pod(2, annotations={"fabricwise.dev/sharing": "time-slicing"}),
        ("replicas of one GPU are not several GPUs", False),
    ),
    "two replicas of two GPUs, allowed": (
        shared_node(8, 2, **TSLICED), pod(2, annotations={"fabricwise.dev/sharing": "time-slicing"}), None,
    ),
    "MPS is not time-slicing": (
        shared_node(4, 1, **{"gpu__sharing-strategy": "mps"}), pod(1, annotations={"fabricwise.dev/sharing": "time-slicing,mig"}),
        NOT_ALLOWED,
    ),
    "a renamed resource": (offering({"nvidia.com/gpu.shared": 4}), slices("nvidia.com/gpu.shared", 1), None),
    "several of a renamed resource": (offering({"nvidia.com/gpu.shared": 4}), slices("nvidia.com/gpu.shared", 2), SPREADS_OVER_SHARED),
    "a renamed resource, whole GPUs only": (
        offering({"nvidia.com/gpu.shared": 4}), slices("nvidia.com/gpu.shared", 1, sharing="none"), NOT_ALLOWED
    ),
    "whole GPUs, whole ones only": (node("n", 8), pod(4, annotations={"fabricwise.dev/sharing": "none"}), None),
}  # fmt: skip


@pytest.mark.parametrize("case", DEFAULT_POLICY)
def test_node_that_shares_gpus_accepts_only_pods_that_allow_it(case: str) -> None:
    manifest, asked, expected = DEFAULT_POLICY[case]
    assert refusal(snapshot(manifest), asked) == expected


ALLOWED = {"fabricwise.dev/sharing": "time-slicing"}


def holding(count: int) -> dict[str, Any]:
    return pod(*[1] * count, name="holder", node="n")


# (replicas held, replicas asked for) on two GPUs of four replicas each -> refusal
COINCIDE = {
    (0, 2): None,
    (1, 2): ("free replicas may come from one GPU", True),
    (2, 2): None,
    (6, 2): None,
    (7, 2): ("too few free GPUs", True),
}


@pytest.mark.parametrize(("held", "asked"), COINCIDE)
def test_replicas_that_may_be_of_one_gpu_do_not_count_as_two_gpus(held: int, asked: int) -> None:
    state = snapshot(shared_node(8, 2, **TSLICED), *([holding(held)] if held else []))
    assert refusal(state, pod(asked, annotations=ALLOWED)) == COINCIDE[held, asked]


def with_agent(state: Snapshot, machine: Machine) -> Snapshot:
    return fold(state, TopologySeen("n", TopologyRecord("n", machine)), GPU)


def test_gputopology_of_a_shared_node_is_no_contradiction_and_free_memory_of_its_gpus_counts() -> None:
    machine = machine_of("t4")
    machine = replace(machine, gpus=tuple(replace(gpu, uuid=f"GPU-{gpu.index}") for gpu in machine.gpus))
    state = with_agent(snapshot(shared_node(16, 4, **TSLICED)), machine)
    view = state.views["n"]
    assert (view.problem, view.state.physical, view.state.table) == (None, 4, None)
    asked = pod(1, annotations={"fabricwise.dev/min-free-memory": "8Gi"})
    assert refusal(state, asked) is None, "nothing is known of it"

    def used(gib: int) -> TelemetrySeen:
        found = tuple(DeviceReading(f"GPU-{n}", fb_used_bytes=gib * GIB, fb_free_bytes=(15 - gib) * GIB) for n in range(4))
        return TelemetrySeen("n", float(gib), found, (), (), "test")

    assert refusal(fold(state, used(2), GPU), asked) is None
    assert refusal(fold(state, used(9), GPU), asked) == ("GPU memory is in use by processes unknown to Kubernetes", False)
    assert refusal(fold(state, used(9), GPU), pod(1)) is None, "a pod that states no need on a shared GPU is not rejected"


def test_shared_node_with_a_faulty_gpu_is_rejected() -> None:
    machine = machine_of("t4")
    machine = replace(machine, gpus=tuple(replace(gpu, uuid=f"GPU-{gpu.index}") for gpu in machine.gpus))
    state = with_agent(snapshot(shared_node(16, 4, **TSLICED)), machine)
    broken = TelemetrySeen("n", 1.0, (DeviceReading("GPU-2", xid=79),), (), (), "test")
    assert refusal(fold(state, broken, GPU), pod(1)) == ("GPU reports a fatal XID error", False)


def test_memory_of_a_mig_device_is_its_own_and_not_that_of_the_gpu() -> None:
    without_telemetry = machine_of("dgx-a100")
    gpu = replace(
        without_telemetry.gpus[0],
        mig_enabled=True,
        memory_bytes=40 * GIB,
        mig_instances=tuple(MigInstance(f"MIG-{n}", "1g.5gb", 4864 << 20) for n in range(7)),
    )
    one = Machine((gpu,), (), ((None,),), ((0,),))
    labels = {"nvidia.com/mig.strategy": "single", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
              "nvidia.com/gpu.count": "7", "nvidia.com/gpu.memory": "4864"}  # fmt: skip
    state = with_agent(snapshot(node("n", 7, labels=labels)), one)
    found = state.views["n"]
    assert found.problem is None
    assert (found.state.sharing, (found.state.gpu_memory_bytes or 0) >> 20) == ("mig", 4864)
    assert refusal(state, pod(1, annotations={"fabricwise.dev/min-gpu-memory": "20Gi"})) == ("GPU memory class too small", False)
    assert refusal(state, pod(2)) == SPREADS_OVER_SHARED


def test_more_units_on_offer_than_the_agent_counts_gpus_is_a_contradiction() -> None:
    state = with_agent(snapshot(node("n", 8)), machine_of("t4"))
    assert "GpuTopology has 4 GPUs but the node offers 8" in (state.views["n"].problem or "")


def test_malformed_number_of_mig_devices_is_a_rejection() -> None:
    broken = slices("nvidia.com/mig-1g.5gb", 1)
    broken["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.5gb"] = "half"
    assert refusal(snapshot(node("n", 8)), broken) == ("pod's GPU request is not a whole number", False)
