"""A node without `nvidia.com/gpu` in its allocatable is judged by its ResourceSlices and claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import EvaluationContext, Moment, Stall, by_feasibility, evaluate_pod
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.request.reasons import Reason
from extender.decision.state.changes import Listed
from extender.decision.state.fold.reducer import fold
from extender.kube.objects.decode import gone, seen
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request, slice_manifests
from tests.dra.dra_objects import bare_node, claim_pod, cluster, dra_node, resolved, sets, topology_of, verdict
from tests.objects import GPU, pod, pod_struct, snapshot
from topology.platforms import machine_of

ORDER = [3, 1, 7, 0, 2, 4, 5, 6]
"""An order in which a driver may list the eight GPUs."""


GPU_5 = f"device.attributes['gpu.nvidia.com'].uuid == '{machine_of('hgx-h100', 'n').gpus[5].uuid}'"


def held(*devices: str, pod_name: str = "other", name: str = "held", **result: Any) -> dict[str, Any]:
    """A claim of namespace `team` that holds devices of node n for a pod."""
    return allocated(claim_manifest(name, [exact_request(len(devices))], "team"), "n", devices, [(f"uid-{pod_name}", pod_name)], **result)


def test_node_without_gpus_in_its_allocatable_takes_the_pod_when_a_class_maps_the_resource() -> None:
    assert verdict(cluster(order=ORDER), pod(4)).feasible


@dataclass(frozen=True)
class Case:
    says: str
    pod: dict[str, Any]
    expected: list[int] | Reason
    objects: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


TAINTED = slice_manifests("n", machine_of("hgx-h100", "n"), ORDER)
TAINTED[0]["spec"]["devices"][0]["taints"] = [{"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}]

CASES = (
    Case("the first devices in the order of the slice are taken", pod(3), [1, 3, 7]),
    Case("two containers are served in their order", pod(1, 2), [1, 3, 7]),
    Case("devices of an allocated claim are not free", pod(3), [0, 1, 2], (held("gpu-3", "gpu-7"),)),
    Case("a claim with admin access holds nothing", pod(3), [1, 3, 7], (held("gpu-3", adminAccess=True),)),
    Case("more than the free GPUs can be cured", pod(7), Reason.TOO_FEW_FREE, (held("gpu-3", "gpu-7"),)),
    Case("more than the slices name cannot be cured", pod(9), Reason.TOO_FEW_GPUS),
    Case("several slices are taken in the order of their names", pod(5), [0, 1, 2, 3, 7], options={"per_slice": 3}),
    Case("a claim is served like an extended resource", claim_pod("mine"), [1, 3], (claim_manifest("mine", [exact_request(2)], "team"),)),
    Case(
        "all matching devices are asked for",
        claim_pod("mine"),
        list(range(8)),
        (claim_manifest("mine", [{"name": "g", "exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}}], "team"),),
    ),
    Case(
        "all matching devices are asked for and one is held",
        claim_pod("mine"),
        Reason.TOO_FEW_FREE,
        (
            held("gpu-3"),
            claim_manifest("mine", [{"name": "g", "exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}}], "team"),
        ),
    ),
    Case(
        "matchAttribute takes the first set of one NUMA node",
        claim_pod("mine"),
        [0, 1, 2, 3],
        (
            claim_manifest(
                "mine", [exact_request(4)], "team", constraints=[{"requests": [], "matchAttribute": "resource.kubernetes.io/numaNode"}]
            ),
        ),
    ),
    Case(
        "the first alternative that fits is taken",
        claim_pod("mine"),
        [0, 1],
        (
            held("gpu-3", "gpu-7"),
            claim_manifest(
                "mine",
                [
                    {
                        "name": "g",
                        "firstAvailable": [
                            {"name": "many", "deviceClassName": "gpu.nvidia.com", "allocationMode": "ExactCount", "count": 8},
                            {"name": "few", "deviceClassName": "gpu.nvidia.com", "allocationMode": "ExactCount", "count": 2},
                        ],
                    }
                ],
                "team",
            ),
        ),
    ),
    Case(
        "a selector of the request narrows the class",
        claim_pod("mine"),
        [5],
        (
            claim_manifest(
                "mine",
                [
                    exact_request(
                        1,
                        selectors=[{"cel": {"expression": GPU_5}}],
                    )
                ],
                "team",
            ),
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_the_allocators_choice_is_predicted(case: Case) -> None:
    found = verdict(cluster(*case.objects, order=ORDER, **case.options), case.pod)
    if isinstance(case.expected, Reason):
        assert found.rejection is not None
        assert found.rejection.reason is case.expected
        assert found.resolvable is (case.expected is Reason.TOO_FEW_FREE)
    else:
        assert sets(found) == [(tuple(case.expected), 1.0)]


def test_tainted_device_is_not_handed_out() -> None:
    state = snapshot(bare_node("n"), topology_of("n", machine_of("hgx-h100", "n")), *TAINTED, class_manifest())
    assert sets(verdict(state, pod(2))) == [((1, 7), 1.0)]
    assert verdict(state, pod(8)).reason == Reason.TOO_FEW_HEALTHY


def test_device_taint_rule_excludes_the_device_until_the_rule_is_deleted() -> None:
    selector = {"driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-3"}
    rule = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": "sick"},
        "spec": {"deviceSelector": selector, "taint": {"key": "example.com/sick", "effect": "NoExecute"}},
    }
    state = cluster(rule, order=ORDER)
    assert sets(verdict(state, pod(1))) == [((1,), 1.0)]
    assert sets(verdict(fold(state, gone("DeviceTaintRule", rule), GPU), pod(1))) == [((3,), 1.0)]


def test_mig_device_in_use_counts_against_its_parent() -> None:
    machine = machine_of("hgx-h100", "n")
    slices = slice_manifests("n", machine, ORDER)
    parent = machine.gpus[3].uuid
    slices[0]["spec"]["devices"].append(
        {
            "name": "gpu-3-mig-1g10gb-0",
            "attributes": {"type": {"string": "mig"}, "uuid": {"string": "MIG-1"}, "parentUUID": {"string": parent}},
        }
    )
    state = snapshot(bare_node("n"), topology_of("n", machine), *slices, class_manifest(), held("gpu-3-mig-1g10gb-0"))
    assert sets(verdict(state, pod(1))) == [((1,), 1.0)]
    assert verdict(state, pod(8)).reason == Reason.TOO_FEW_FREE


def test_request_for_parts_of_gpus_passes_without_a_rank_and_says_why() -> None:
    machine = machine_of("hgx-h100", "n")
    slices = slice_manifests("n", machine, ORDER)
    slices[0]["spec"]["devices"].append(
        {"name": "part", "attributes": {"type": {"string": "mig"}, "parentUUID": {"string": machine.gpus[0].uuid}}}
    )
    mig = class_manifest("mig.nvidia.com", None, "device.attributes['gpu.nvidia.com'].type == 'mig'")
    wanted = claim_manifest("mine", [exact_request(1, device_class="mig.nvidia.com")], "team")
    state = snapshot(bare_node("n"), topology_of("n", machine), *slices, class_manifest(), mig, wanted)
    found = verdict(state, claim_pod("mine"))
    assert found.feasible
    assert any("parts of GPUs" in note for note in found.evidence.notes)


def test_holder_of_a_claim_is_known_by_its_uid_without_an_agent() -> None:
    running = pod(2, name="other", node="n")
    state = cluster(held("gpu-3", "gpu-7"), running, order=ORDER)
    assert state.views["n"].known["uid-other"] == ((1 << 3) | (1 << 7),)
    assert state.views["n"].state.free_count == 6


def test_pod_bound_before_its_claim_is_seen_is_predicted() -> None:
    state = cluster(pod(2, name="other", node="n"), order=ORDER)
    assert state.views["n"].state.free_count == 6
    assert sets(verdict(state, pod(1))) == [((7,), 1.0)]


def test_pod_with_a_claim_alone_holds_its_devices() -> None:
    state = cluster(held("gpu-3"), claim_pod("held", name="other", node="n"), order=ORDER)
    (running,) = state.views["n"].pods
    assert running.demand.total == 1
    assert state.views["n"].known == {"uid-other": (1 << 3,)}


def test_claim_that_is_deleted_frees_its_devices() -> None:
    claim = held("gpu-3", "gpu-7")
    state = fold(cluster(claim, order=ORDER), gone("ResourceClaim", claim), GPU)
    assert state.views["n"].state.free_count == 8
    assert not state.dra.holders


def test_allocated_claim_of_a_pod_asks_for_nothing_more() -> None:
    state = cluster(held("gpu-3", pod_name="llm", name="mine"), order=ORDER)
    assert resolved(state, claim_pod("mine")).total == 0


@pytest.mark.parametrize(
    ("with_topology", "note"), [(True, "topology from GpuTopology"), (False, "topology assumed from product: hgx-h100")]
)
def test_links_are_from_the_gputopology_or_assumed_from_the_product(with_topology: bool, note: str) -> None:
    view = cluster(with_topology=with_topology).views["n"]
    assert view.state.note.startswith(note)
    assert view.state.table is not None


def test_product_without_one_topology_is_judged_by_counts_and_attributes() -> None:
    machine = machine_of("dgx-1v", "n")
    slices = slice_manifests("n", machine)
    for device in slices[0]["spec"]["devices"]:
        device["attributes"]["productName"] = {"string": "GPU of the future"}
    state = snapshot(bare_node("n"), *slices, class_manifest(), held("gpu-3"))
    view = state.views["n"]
    assert view.state.table is None
    assert view.state.product == "GPU of the future"
    assert view.state.free_count == 7
    assert verdict(state, pod(8)).reason == Reason.TOO_FEW_FREE


def test_device_plugin_nodes_and_dra_nodes_are_judged_side_by_side() -> None:
    plugin = [bare_node("p", 8), topology_of("p", machine_of("hgx-h100", "p"))]
    cpu = bare_node("c")
    state = snapshot(*dra_node("n"), *plugin, cpu, class_manifest())
    assert verdict(state, pod(4), "n").feasible
    assert verdict(state, pod(4), "p").feasible
    assert verdict(state, pod(1), "c").reason == Reason.TOO_FEW_GPUS


def test_equal_dra_nodes_share_one_state() -> None:
    state = snapshot(*dra_node("a"), *dra_node("b"), class_manifest())
    assert state.views["a"].state is state.views["b"].state


def test_order_of_changes_does_not_matter() -> None:
    objects = [*dra_node("n", order=ORDER), class_manifest(), held("gpu-3"), pod(1, name="other", node="n")]
    states = []
    for listed in (objects, objects[::-1], [*objects[3:], *objects[:3]]):
        state = snapshot()
        for manifest in listed:
            state = fold(state, seen(manifest["kind"], manifest), GPU)
        states.append(state.views["n"].state)
    assert states[0] is states[1] is states[2]


def test_devices_of_a_claim_whose_pod_is_deleted_may_be_free_already() -> None:
    running = pod(1, name="other", node="n") | {
        "metadata": {"name": "other", "namespace": "team", "uid": "uid-other", "resourceVersion": "5"}
    }
    state = fold(cluster(held("gpu-3"), running, order=ORDER), gone("Pod", running), GPU)
    assert dict(sets(verdict(state, pod(1)))) == pytest.approx({(1,): 0.8, (3,): 0.2})


def test_claim_that_the_watch_has_not_shown_yet_is_waited_for() -> None:
    asked = pod_struct(claim_pod("mine"))
    context = EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, NODE_DEFAULTS)
    state = fold(cluster(), Listed("resourceclaims", (), 7), GPU)
    assert evaluate_pod(context, Moment(state, NO_ASSUMED_PODS, 0.0), asked, ["n"], by_feasibility).stall is Stall.CLAIM
    known = fold(state, seen("ResourceClaim", claim_manifest("mine", [exact_request(2)], "team")), GPU)
    assert evaluate_pod(context, Moment(known, NO_ASSUMED_PODS, 0.0), asked, ["n"], by_feasibility).decided_node == "n"


def test_claim_that_is_reserved_for_no_pod_yet_is_held_by_the_pod_that_owns_it() -> None:
    claim = held("gpu-3")
    claim["status"]["reservedFor"] = []
    claim["metadata"] = claim["metadata"] | {"ownerReferences": [{"kind": "Pod", "name": "other", "uid": "uid-other"}]}
    state = cluster(claim, pod(1, name="other", node="n"), order=ORDER)
    assert state.views["n"].state.free_count == 7, "the pod and its claim are not counted both"


def test_claim_that_names_no_pod_is_held_by_the_pod_whose_status_names_it() -> None:
    claim = held("gpu-3")
    claim["status"]["reservedFor"] = []
    running = pod(1, name="other", node="n", status={"extendedResourceClaimStatus": {"resourceClaimName": "held", "requestMappings": []}})
    view = cluster(claim, running, order=ORDER).views["n"]
    assert view.known == {"uid-other": (1 << 3,)}
    assert view.state.free_count == 7


def test_device_that_shares_counters_with_a_gpu_takes_the_whole_gpu() -> None:
    slices = slice_manifests("n", machine_of("hgx-h100", "n"), ORDER)
    devices = slices[0]["spec"]["devices"]
    for number, device in enumerate(devices):
        device["consumesCounters"] = [{"counterSet": f"set-{number}", "counters": {"slices": {"value": "7"}}}]
    part = {"name": "part", "consumesCounters": [{"counterSet": "set-0", "counters": {"slices": {"value": "1"}}}]}
    devices.append(part | {"attributes": {"type": {"string": "mig"}, "uuid": {"string": "MIG-1"}}})
    state = snapshot(bare_node("n"), topology_of("n", machine_of("hgx-h100", "n")), *slices, class_manifest(), held("part"))
    assert sets(verdict(state, pod(1))) == [((1,), 1.0)]
    assert verdict(state, pod(8)).reason == Reason.TOO_FEW_FREE
