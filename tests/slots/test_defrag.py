"""Advice on moves in named situations, and its laws: the gain that it states is real, and no budget is exceeded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.disruption.disruption_facts import NO_OWNER, budget_of
from extender.decision.disruption.evictions import SEVERAL_BUDGETS
from extender.decision.request.kubernetes_objects import Meta, Pod, PodSpec
from extender.decision.slots.defrag_answer import DefragAnswer
from extender.decision.slots.defrag_search import NO_NET_GAIN, NOWHERE
from extender.decision.slots.movable_pods import TERMINATING
from tests.objects import pod
from tests.slots.machines_in_use import Objects, machine_node, of_size
from tests.slots.moved_clusters import advised, after_moves, budget, owned

HALF = (0, 1, 2, 3)


def moves_of(answer: DefragAnswer) -> list[list[tuple[str, str, str]]]:
    return [[(move.name, move.from_node, move.to_node) for move in step.moves] for step in answer.steps]


def left_out(answer: DefragAnswer) -> dict[str, tuple[str, ...]]:
    return {entry.reason: entry.examples for entry in answer.left_out}


TWO_NODES = owned([*machine_node("a", "hgx-h100", {"one": (0,)}), *machine_node("b", "hgx-h100", {"three": (0, 1, 2)})])
"""Seven idle GPUs on a and five on b: a pod of one GPU on a prevents a pod of eight."""


def test_pod_of_one_gpu_moves_to_the_node_that_cannot_hold_eight_anyway() -> None:
    answer = advised(TWO_NODES, 8)
    assert moves_of(answer) == [[("one", "a", "b")]]
    assert (answer.slots_now, answer.slots_after, answer.steps[0].gain) == (0, 1, 1)
    assert answer.summary == "1 move makes room for 1 more pod of 8 GPUs: 1 instead of 0."
    assert answer.steps[0].moves[0].owner == "ReplicaSet/of-one"
    assert answer.note == "Nothing was changed: this is advice."


def test_cheaper_of_two_moves_is_advised_lower_priority_first_then_fewer_gpus() -> None:
    objects = [*machine_node("a", "hgx-h100", {"one": (0,)}), *machine_node("b", "hgx-h100", {"two": (0, 1)})]
    third = machine_node("c", "hgx-h100", {"four": HALF})
    urgent = [*owned(objects, priority=5), *owned(third, priority=5)]
    assert moves_of(advised(urgent, 8))[0][0][0] == "one"
    low = [each if each["metadata"]["name"] != "two" else {**each, "spec": {**each["spec"], "priority": 0}} for each in urgent]
    assert moves_of(advised(low, 8))[0][0][0] == "two"


def test_two_pods_of_one_node_are_moved_together_where_neither_alone_helps() -> None:
    objects = owned(
        [*machine_node("a", "hgx-h100", {"one": (0,), "other": (5,)}), *machine_node("b", "hgx-h100", {"five": (0, 1, 2, 3, 4)})]
    )
    answer = advised(objects, 8)
    assert sorted(moves_of(answer)[0]) == [("one", "a", "b"), ("other", "a", "b")]
    assert moves_of(advised(objects, 8, moves=1)) == [[("five", "b", "a")]], "five GPUs cost more than two"


def test_bridged_pair_is_regained_only_for_pods_that_need_no_more_links_elsewhere() -> None:
    objects = owned([*machine_node("a", "a100-pcie-bridge-pairs", {"one": (0,)}), *machine_node("b", "t4", {"three": (0, 1, 2)})])
    answer = advised(objects, 8)
    assert moves_of(answer) == [[("one", "a", "b")]]


LEFT_OUT: dict[str, tuple[Objects, list[dict[str, Any]], str]] = {
    "a bare pod": (owned(TWO_NODES, None), [], NO_OWNER),
    "a pod of a DaemonSet": (owned(TWO_NODES, "DaemonSet"), [], "its DaemonSet recreates it on the same node"),
    "a static pod": (owned(TWO_NODES, "Node"), [], "its Node recreates it on the same node"),
    "an owner of an unknown kind": (owned(TWO_NODES, "Wombat"), [], "it is not known whether a Wombat recreates its pods"),
    "a budget without disruptions": (TWO_NODES, [budget("b", 0)], "budget team/b allows no disruption now"),
    "a budget whose status is old": (TWO_NODES, [budget("b", 3, observedGeneration=0)], "budget team/b allows no disruption now"),
    "two budgets": (TWO_NODES, [budget("b", 3), budget("c", 3)], SEVERAL_BUDGETS),
    "a full cluster": (
        owned([*machine_node("a", "hgx-h100", {"one": (0,)}), *machine_node("b", "hgx-h100", {"eight": tuple(range(8))})]),
        [],
        NOWHERE,
    ),
    "two nodes with as many pods": (
        owned([*machine_node("a", "hgx-h100", {"x": HALF}), *machine_node("b", "hgx-h100")]),
        [],
        NO_NET_GAIN,
    ),
    "a pod of a PodGroup": (
        owned(TWO_NODES, schedulingGroup={"podGroupName": "gang"}),
        [],
        "it is in a PodGroup, whose pods are scheduled together",
    ),
    "a node selector that no other node has": (owned(TWO_NODES, nodeSelector={"kubernetes.io/hostname": "a"}), [], NOWHERE),
}


@pytest.mark.parametrize(("objects", "budgets", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_pod_that_cannot_be_moved_is_left_out_with_the_reason(objects: Objects, budgets: list[dict[str, Any]], reason: str) -> None:
    answer = advised(objects, 8, budgets)
    assert (answer.steps, answer.slots_after) == ((), answer.slots_now)
    assert reason in left_out(answer)
    assert answer.summary.startswith("No move makes room for one more pod of 8 GPUs")


def test_terminating_pod_is_not_moved() -> None:
    objects = [
        {**each, "metadata": {**each["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
        if each["metadata"]["name"] == "one"
        else each
        for each in TWO_NODES
    ]
    assert left_out(advised(objects, 8)) == {TERMINATING: ("team/one",)}


def three_nodes() -> Objects:
    """Two nodes with a pod of one GPU each, and one that takes both."""
    nodes = [*machine_node("a", "hgx-h100", {"p": (0,)}), *machine_node("b", "hgx-h100", {"q": (0,)})]
    return owned([*nodes, *machine_node("c", "hgx-h100", {"five": (0, 1, 2, 3, 4)})])


def test_moves_together_do_not_exceed_a_budget() -> None:
    both = advised(three_nodes(), 8, [budget("b", 2, ("p", "q"))])
    assert (sorted(each[0][0] for each in moves_of(both)), both.slots_after) == (["p", "q"], 2)
    one = advised(three_nodes(), 8, [budget("b", 1, ("p", "q"))])
    assert (len(one.steps), one.slots_after, one.steps[0].moves[0].budget) == (1, 1, "team/b")
    assert "budget team/b allows no further disruption" in left_out(one)


def test_no_more_moves_are_advised_than_asked_for() -> None:
    assert len(advised(three_nodes(), 8, moves=1).steps) == 1


def test_pod_does_not_move_to_a_node_that_another_pod_has_left() -> None:
    sources = {move.from_node for step in advised(three_nodes(), 8).steps for move in step.moves}
    targets = {move.to_node for step in advised(three_nodes(), 8).steps for move in step.moves}
    assert not sources & targets


def test_cpu_that_other_pods_hold_keeps_a_pod_away() -> None:
    big = pod(name="web", node="b")
    big["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "64"}}
    objects = [*TWO_NODES, big]
    for manifest in objects:
        if manifest["metadata"]["name"] == "one":
            manifest["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "1"}
    assert NOWHERE in left_out(advised(objects, 8))


def test_search_that_runs_out_of_time_says_so() -> None:
    answer = advised(three_nodes(), 8, pace=lambda: False)
    assert (answer.complete, answer.steps) == (False, ())


SELECTORS = {
    "none selects no pod": ({}, False),
    "an empty one selects every pod of the namespace": ({"selector": {}}, True),
    "by label": ({"selector": {"matchLabels": {"app": "x"}}}, True),
    "by another label": ({"selector": {"matchLabels": {"app": "y"}}}, False),
}


@pytest.mark.parametrize(("spec", "covers"), SELECTORS.values(), ids=SELECTORS)
def test_selector_of_a_budget(spec: dict[str, Any], covers: bool) -> None:
    read = budget_of({"metadata": {"name": "b", "namespace": "team"}, "spec": spec, "status": {"disruptionsAllowed": 1}})
    assert read.covers(Pod(Meta(name="p", namespace="team", labels={"app": "x"}), PodSpec())) is covers
    assert not read.covers(Pod(Meta(name="p", namespace="other", labels={"app": "x"}), PodSpec()))


@dataclass
class Fleet:
    objects: Objects = field(default_factory=list)
    budgets: list[dict[str, Any]] = field(default_factory=list)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Two to four nodes with pods of one to four GPUs, of owners of several kinds, and up to two budgets."""
    objects: Objects = []
    for name in "abcd"[: draw(st.integers(2, 4))]:
        platform = draw(st.sampled_from(["hgx-h100", "a100-pcie-bridge-pairs", "t4"]))
        free = list(draw(st.permutations(range(4 if platform == "t4" else 8))))
        held = {}
        for number in range(draw(st.integers(0, 3))):
            count = draw(st.sampled_from([1, 1, 2, 4]))
            if count <= len(free):
                held[f"{name}{number}"] = tuple(free[:count])
                free = free[count:]
        kind = draw(st.sampled_from(["ReplicaSet", "StatefulSet", None]))
        objects += owned(machine_node(name, platform, held), kind, priority=draw(st.integers(0, 2)))
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Pod"]
    budgets = []
    for number in range(draw(st.integers(0, 2)) if names else 0):
        apps = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        budgets.append(budget(f"b{number}", draw(st.integers(0, 2)), apps))
    return Fleet(objects, budgets)


@given(fleets(), st.sampled_from([2, 4, 8]))
@settings(max_examples=120, deadline=None)
def test_stated_gain_equals_the_slots_counted_after_the_moves(fleet: Fleet, size: int) -> None:
    answer = advised(fleet.objects, size, fleet.budgets)
    assert answer.slots_now == of_size(fleet.objects, size).now
    assert answer.slots_after == of_size(after_moves(fleet.objects, answer), size).now
    assert answer.slots_after == answer.slots_now + sum(step.gain for step in answer.steps)
    assert all(step.gain > 0 for step in answer.steps)


@given(fleets(), st.sampled_from([2, 4, 8]))
@settings(max_examples=120, deadline=None)
def test_no_budget_is_exceeded_and_no_bare_pod_is_moved(fleet: Fleet, size: int) -> None:
    answer = advised(fleet.objects, size, fleet.budgets)
    moved = [move for step in answer.steps for move in step.moves]
    bare = {each["metadata"]["name"] for each in fleet.objects if each["kind"] == "Pod" and not each["metadata"]["ownerReferences"]}
    assert not bare & {move.name for move in moved}
    used = Counter(
        each["metadata"]["name"]
        for each in fleet.budgets
        for move in moved
        if move.name in each["spec"]["selector"]["matchExpressions"][0]["values"]
    )
    allowed = {each["metadata"]["name"]: each["status"]["disruptionsAllowed"] for each in fleet.budgets}
    assert all(count <= allowed[name] for name, count in used.items())
