"""Slots in named situations, and the laws that every answer keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from extender.decision.request.workload_classes import WorkloadClass, read_classes
from extender.decision.slots.node_idleness import MOST_UNITS
from extender.decision.slots.slot_answer import SlotRow
from extender.decision.slots.slot_counter import SlotCounter
from extender.decision.slots.slot_question import By, SlotQuestion, asked
from extender.decision.slots.slot_summary import slots_of
from extender.decision.state.changes import TelemetrySeen
from extender.decision.state.fold.reducer import fold
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.readings import DeviceReading
from tests.node_state.shared_nodes import shared_node
from tests.objects import GPU, node, pod, snapshot
from tests.slots.machines_in_use import Objects, counted, lost, machine_node, of_size
from topology.devices.numa_alignment import TopologyManager
from topology.machine.hardware import mask_of
from topology.placement.set_table import DEFAULT_SIZE_MIX

GIB = 1 << 30
PAIRS = "a100-pcie-bridge-pairs"
"""Eight A100 in bridged pairs {0,1}, {2,3}, ...: 240 GB/s in a pair, 20 GB/s or less beside it."""
NOT_READY = ({"type": "Ready", "status": "False"},)


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster, a size and a floor; what fits, and what is lost."""

    objects: Objects
    size: int
    now: int
    lost: dict[str, int]
    floor: float | None = None


CASES = {
    "an empty HGX holds two pods of four": Case(machine_node("a", "hgx-h100"), 4, 2, {}),
    "three idle GPUs on each of two nodes make no pod of four": Case(
        [*machine_node("a", "hgx-h100", {"p": (0, 1, 2, 3, 4)}), *machine_node("b", "hgx-h100", {"q": (0, 1, 2, 3, 4)})],
        4,
        0,
        {"fragmentation_over_nodes": 1},
    ),
    "one GPU of a bridged pair is taken: the other one is left over": Case(machine_node("a", PAIRS, {"p": (0,)}), 2, 3, {}, floor=200),
    "one GPU of each of two bridged pairs is taken": Case(
        machine_node("a", PAIRS, {"p": (0,), "q": (2,)}), 2, 2, {"fragmentation_in_nodes": 1}, floor=200
    ),
    "the same without a floor": Case(machine_node("a", PAIRS, {"p": (0,), "q": (2,)}), 2, 3, {}),
    "no four A100 of bridged pairs reach 200 GB/s": Case(machine_node("a", PAIRS), 4, 0, {"links": 2}, floor=200),
    "only the half with fast links of a cube mesh is idle": Case(machine_node("a", "dgx-1v", {"p": (4, 5, 6, 7)}), 4, 1, {}, floor=80),
    "four GPUs of both halves of a cube mesh are idle": Case(
        machine_node("a", "dgx-1v", {"p": (0, 1), "q": (6, 7)}), 4, 0, {"fragmentation_in_nodes": 1}, floor=80
    ),
    "a cordoned node": Case(machine_node("a", "hgx-h100", spec={"unschedulable": True}), 8, 0, {"cordoned_or_not_ready": 1}),
    "a node that is not ready": Case(machine_node("a", "t4", conditions=NOT_READY), 2, 0, {"cordoned_or_not_ready": 2}),
    "a taint for GPU pods is tolerated": Case(
        machine_node("a", "t4", spec={"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}), 4, 1, {}
    ),
    "an unhealthy GPU": Case(machine_node("a", "hgx-h100", unhealthy=(5,), offered=7), 4, 1, {"unhealthy_gpus": 1}),
    "an unhealthy GPU that the device plugin still offers": Case(
        machine_node("a", "hgx-h100", unhealthy=(5,)), 8, 0, {"unhealthy_gpus": 1}
    ),
    "an unhealthy GPU that a pod holds is missing in Kubernetes' count of the free ones": Case(
        machine_node("a", "hgx-h100", {"p": (4, 5, 6, 7)}, unhealthy=(5,), offered=7), 4, 0, {"unhealthy_gpus": 1}
    ),
    "a cordoned node with an unhealthy GPU: each cause counts what its removal adds": Case(
        machine_node("a", "hgx-h100", unhealthy=(5,), offered=7, spec={"unschedulable": True}),
        4,
        0,
        {"cordoned_or_not_ready": 1, "unhealthy_gpus": 1},
    ),
    "GPUs of a pod that the API server does not show": Case(machine_node("a", "hgx-h100", strangers=(0, 1)), 8, 0, {"unknown_use": 1}),
    "a GPU of a node of unknown topology is not offered": Case(
        [node("a", 7) | {"status": {"capacity": {GPU: "8"}, "allocatable": {GPU: "7"}}}], 4, 1, {"unhealthy_gpus": 1}
    ),
    "a node of unknown topology reaches no floor": Case([node("a", 8)], 4, 0, {"links": 2}, floor=10),
    "a node with fewer GPUs than the size counts for no pod": Case([*machine_node("a", "t4"), *machine_node("b", "t4")], 8, 0, {}),
    "GPUs of two products make no pod together": Case(
        [*machine_node("a", "l40s", {"p": (0, 1)}), *machine_node("b", "t4", {"q": (0, 1)})], 4, 0, {}
    ),
    "no cluster": Case([], 4, 0, {}),
    "a node without GPUs": Case([node("a", 0)], 1, 0, {}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_slots_and_what_the_missing_ones_are_lost_to(case: Case) -> None:
    slots = of_size(case.objects, case.size, case.floor)
    assert (slots.now, lost(slots)) == (case.now, case.lost)


def used_memory(state: Snapshot, name: str, used_gib: dict[int, float], count: int = 8) -> Snapshot:
    """The state after a scrape that found these amounts of memory in use by processes that Kubernetes does not know."""
    devices = []
    for index in range(count):
        used = int(used_gib.get(index, 0.0) * GIB)
        devices.append(DeviceReading(f"GPU-{name}-{index}", index=index, fb_used_bytes=used, fb_free_bytes=79 * GIB - used, xid=0))
    return fold(state, TelemetrySeen(name, 0.0, tuple(devices), (), (), "test"), GPU)


def test_memory_in_use_by_unknown_processes_is_a_cause_of_its_own() -> None:
    state = used_memory(snapshot(*machine_node("a", "hgx-h100")), "a", {0: 60.0})
    slots = of_size(state, 8)
    assert (slots.now, lost(slots)) == (0, {"unknown_use": 1})


def test_telemetry_that_is_required_and_missing_is_a_cause_of_its_own() -> None:
    required = Policy(telemetry_required_for=frozenset("*"))
    slots = of_size(machine_node("a", "hgx-h100"), 4, policy=required)
    assert (slots.now, lost(slots)) == (0, {"unknown_use": 2})


def test_fatal_xid_of_an_offered_gpu_counts_as_unhealthy() -> None:
    state = snapshot(*machine_node("a", "hgx-h100"))
    fatal = DeviceReading("GPU-a-0", index=0, fb_used_bytes=0, fb_free_bytes=79 * GIB, xid=79)
    slots = of_size(fold(state, TelemetrySeen("a", 0.0, (fatal,), (), (), "test"), GPU), 8)
    assert (slots.now, lost(slots)) == (0, {"unhealthy_gpus": 1})


MIG = shared_node(7, gpu__product="NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", mig__strategy="single")
SLICED = shared_node(4, gpu__product="Tesla-T4-SHARED", gpu__replicas="4", gpu__sharing_strategy="time-slicing")


@pytest.mark.parametrize("shared", [MIG, SLICED], ids=["MIG", "time-slicing"])
def test_shared_gpus_are_not_counted_for_pods_that_want_whole_ones(shared: dict[str, Any]) -> None:
    answer = counted([shared], SlotQuestion((1,)))
    assert (answer.total.gpus, answer.total.sizes[0].now) == (0, 0)
    assert [(entry.reason, entry.nodes) for entry in answer.not_counted] == [("node shares its GPUs in a way the pod does not allow", 1)]


def classes(**fields: Any) -> dict[str, WorkloadClass]:
    return read_classes({"classes": [{"name": "some", **fields}]})


def test_units_of_shared_gpus_are_counted_for_a_class_that_allows_them() -> None:
    answer = counted([MIG, pod(1, node="n")], SlotQuestion((1,), "some"), classes=classes(sharing=["mig"]))
    assert (answer.total.sizes[0].now, answer.total.sizes[0].held_by_pods) == (6, 1)


def test_rows_of_pools_have_the_nodes_of_each_class_and_the_total_has_each_node_once() -> None:
    objects = [*machine_node("a", "t4", labels={"tier": "x"}), *machine_node("b", "t4", labels={"tier": "y"})]
    known = read_classes({"classes": [{"name": "x", "pools": [{"tier": "x"}]}, {"name": "all"}]})
    answer = counted(objects, SlotQuestion((2,), by=By.POOL), classes=known)
    assert [(row.name, row.sizes[0].now) for row in answer.rows] == [("all", 4), ("x", 2)]
    assert answer.total.sizes[0].now == 4


def test_nodes_outside_the_pools_of_the_class_are_not_counted() -> None:
    objects = [*machine_node("a", "t4", labels={"tier": "x"}), *machine_node("b", "t4")]
    answer = counted(objects, SlotQuestion((2,), "some"), classes=classes(pools=[{"tier": "x"}]))
    assert (answer.total.nodes, answer.total.sizes[0].now) == (1, 2)
    assert [entry.reason for entry in answer.not_counted] == ["node is in no pool of the pod's workload class"]


def test_node_that_states_an_absurd_number_of_gpus_counts_with_a_bounded_one() -> None:
    answer = counted([node("a", 10**18), *machine_node("b", "t4")], SlotQuestion((4,)))
    assert answer.total.gpus == MOST_UNITS + 4
    assert answer.total.sizes[0].now == MOST_UNITS // 4 + 1


def test_assumed_pods_hold_their_gpus() -> None:
    state, four = snapshot(*machine_node("a", "hgx-h100")), Demand(((4, False),), 4)
    answer = slots_of(state, SlotQuestion((4,)), GPU, extra_pods={"a": (four,)})
    assert (answer.total.sizes[0].now, answer.total.idle_gpus) == (1, 4)


def test_time_that_ends_gives_an_answer_that_says_how_far_it_came() -> None:
    objects = [each for number in range(40) for each in machine_node(f"n{number:02}", "t4")]
    moments = iter([True, True])
    answer = slots_of(snapshot(*objects), SlotQuestion((4,)), GPU, pace=lambda: next(moments, False))
    assert (answer.complete, answer.nodes_counted, answer.nodes_known, answer.total.sizes[0].now) == (False, 16, 40, 16)


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        (machine_node("a", "hgx-h100"), "2 more pods of 4 GPUs fit; none is lost."),
        (machine_node("a", "hgx-h100", {"p": (0, 1, 2, 3)}), "1 more pod of 4 GPUs fits; none is lost."),
        (
            machine_node("a", "t4", spec={"unschedulable": True}),
            "0 more pods of 4 GPUs fit; 1 is lost: 1 to nodes that are cordoned or not ready.",
        ),
        (machine_node("a", "t4", {"p": (0,)}), "0 more pods of 4 GPUs fit; none is lost."),
        ([node("a", 2)], "0 more pods of 4 GPUs fit; no node for such pods has 4 GPUs."),
        ([], "No node with GPUs is for such pods."),
    ],
)
def test_the_sentence(objects: Objects, sentence: str) -> None:
    assert counted(objects, SlotQuestion((4,))).summary == sentence


BAD = {
    "no GPU": (((0,), None, None, None), "size 0 is out of bounds"),
    "too many GPUs": (((65,), None, None, None), "1 to 64 GPUs"),
    "too many sizes": ((range(1, 20), None, None, None), "at most 8"),
    "no classes": (((), "x", None, None), "no workload classes are loaded"),
    "negative floor": (((), None, -1.0, None), "floor -1 GB/s is out of bounds"),
    "floor that is no number": (((), None, float("nan"), None), "floor nan GB/s is out of bounds"),
    "memory without its unit": (((), None, None, "80"), "with its unit, such as 80Gi"),
    "memory that is no quantity": (((), None, None, "80 gigs"), "memory:"),
    "huge memory": (((), None, None, "1e40"), "out of bounds"),
}


@pytest.mark.parametrize(("arguments", "text"), BAD.values(), ids=BAD)
def test_question_out_of_bounds_is_refused_with_what_is_wrong(arguments: Any, text: str) -> None:
    sizes, workload_class, floor_gbps, memory = arguments
    refusal = asked(sizes, workload_class, floor_gbps, memory, By.PRODUCT, {})
    assert isinstance(refusal, str)
    assert text in refusal


def test_unknown_class_is_refused_with_the_known_ones() -> None:
    assert asked((), "sum", None, None, By.POOL, classes()) == "class 'sum' is none of some: name one of these"


PLATFORMS = (PAIRS, "dgx-1v", "hgx-h100", "t4")


@st.composite
def nodes_in_use(draw: st.DrawFn, most_nodes: int = 3) -> Objects:
    """Nodes of several platforms with pods of known and of unknown devices, strangers, unhealthy GPUs and cordons."""
    objects: Objects = []
    for name in "abc"[: draw(st.integers(1, most_nodes))]:
        platform = draw(st.sampled_from(PLATFORMS))
        size = 4 if platform == "t4" else 8
        order = draw(st.permutations(range(size)))
        bounds = sorted(draw(st.lists(st.integers(0, size), min_size=3, max_size=3)))
        first, second, strangers = order[: bounds[0]], order[bounds[0] : bounds[1]], order[bounds[1] : bounds[1] + draw(st.integers(0, 1))]
        unhealthy = [index for index in order if draw(st.integers(0, 9)) == 0]
        held = {f"{name}-{number}": tuple(indices) for number, indices in enumerate((first, second)) if indices}
        labels = {"fabricwise.dev/topology-manager-policy": draw(st.sampled_from(["none", "none", "single-numa-node"]))}
        objects += machine_node(
            name,
            platform,
            held,
            strangers=strangers,
            unhealthy=unhealthy,
            offered=size - len(unhealthy) if draw(st.booleans()) else size,
            spec={"unschedulable": draw(st.integers(0, 4)) == 0},
            labels=labels,
        )
    return objects


def question_of(floor: float | None, by: By = By.NODE) -> SlotQuestion:
    return SlotQuestion((1, 2, 4, 8), floor_gbps=floor, by=by)


FLOORS = st.sampled_from([None, 15.0, 80.0, 200.0])


def is_balanced(row: SlotRow) -> bool:
    parts = [[getattr(each.lost, cause) for cause in each.lost.__struct_fields__] for each in row.sizes]
    sums = all(each.now + sum(part) == each.ideal for each, part in zip(row.sizes, parts, strict=True))
    return sums and all(count >= 0 for part in parts for count in part) and all(each.now >= 0 <= each.held_by_pods for each in row.sizes)


@given(nodes_in_use(), FLOORS, st.sampled_from(list(By)))
@settings(max_examples=150, deadline=None)
def test_now_and_the_lost_ones_add_up_to_the_ideal_in_every_row(objects: Objects, floor: float | None, by: By) -> None:
    answer = counted(objects, question_of(floor, by))
    assert all(is_balanced(row) for row in (answer.total, *answer.rows))
    for place in range(4):
        whole = answer.total.sizes[place]
        assert whole.ideal * whole.size <= answer.total.idle_gpus
        assert whole.now == sum(row.sizes[place].now for row in answer.rows) or by is By.POOL


def one_by_one(demand: Demand, state: NodeState) -> int:
    """The slots of a node by whole evaluations: as many pods as the evaluator admits, each with its most probable GPUs."""
    count = 0
    while (verdict := Evaluator(Policy(DEFAULT_SIZE_MIX)).evaluate(demand, state)).feasible:
        count += 1
        gpus = verdict.evidence.prospects[0].gpus
        taken = mask_of([state.indices.index(index) for index in gpus])
        free = next(free for free, _ in state.free_sets if not taken & ~free)
        state = replace(state, requested=state.requested + demand.total, free_sets=((free & ~taken, 1.0),))
    return count


@given(nodes_in_use(1), FLOORS, st.sampled_from([1, 2, 4]))
@settings(max_examples=100, deadline=None)
def test_slots_of_a_node_are_as_many_as_the_evaluator_admits_one_after_another(objects: Objects, floor: float | None, size: int) -> None:
    state, demand = snapshot(*objects).views["a"].state, SlotQuestion((size,), floor_gbps=floor).demand(size, {})
    assert SlotCounter(demand, DEFAULT_POLICY).count(state) == one_by_one(demand, state)


@given(nodes_in_use(1), st.sampled_from([1, 2, 4]), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_pod_that_is_bound_as_well_never_adds_a_slot_without_a_floor(objects: Objects, size: int, more: int) -> None:
    """With a floor it can: the device plugin chooses other GPUs than before, which may leave better ones."""
    before, after = of_size(objects, size), of_size([*objects, pod(more, name="new", node="a")], size)
    assert after.now <= before.now


def test_single_numa_node_policy_limits_the_slots() -> None:
    labels = {"fabricwise.dev/topology-manager-policy": TopologyManager.SINGLE_NUMA_NODE.value}
    slots = of_size(machine_node("a", "hgx-h100", {"p": (0, 4)}, labels=labels), 4)
    assert (slots.now, lost(slots)) == (0, {"fragmentation_in_nodes": 1})
