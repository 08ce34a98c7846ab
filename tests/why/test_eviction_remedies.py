"""Remedies that evict pods: budgets, owners, groups that restart as a whole, and what is said where these are not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.disruption.disruption_facts import DisruptionFacts
from extender.decision.disruption.evictions import Evictee, GroupRestart
from extender.decision.why.helping.eviction_remedies import MOST_OPTIONS, NOT_CHECKED
from extender.decision.why.why_pod import evictees, why_answer
from extender.decision.why.why_types import WhyAnswer
from tests.slots.moved_clusters import budget, facts_of, labelled, owned
from tests.why.why_questions import Manifest, machine_node, question, waiting_pod

NODES = [*machine_node("a", "hgx-h100", {"x": range(4)}), *machine_node("b", "hgx-h100", {"y": range(6)})]
"""A pod of eight GPUs fits after the eviction of x, which is cheaper, or of y."""
JOB = {"jobset.sigs.k8s.io/jobset-name": "train"}
LWS = {
    "leaderworkerset.sigs.k8s.io/name": "llm",
    "leaderworkerset.sigs.k8s.io/group-index": "2",
    "leaderworkerset.sigs.k8s.io/group-key": "5d41402abc",
}
Y = "evict team/y; then it fits on b and gives 490 GB/s"
X = "evict team/x; then it fits on a and gives 490 GB/s"


def answered(
    objects: Sequence[Manifest], budgets: Sequence[Manifest] = (), *, are_pods_known: bool = True, priority: int = 0, gpus: int = 8
) -> WhyAnswer:
    """Return the answer about a pod of eight GPUs, where everything that is looked up is known."""
    facts = facts_of(objects, budgets)
    asked = question(waiting_pod(gpus, spec={"priority": priority}), *objects, are_pods_known=are_pods_known)
    return why_answer(asked, look_up=lambda _: facts)


def evictions(answer: WhyAnswer) -> list[str]:
    return [each.text for each in answer.remedies if each.kind == "evict"]


def refusals(answer: WhyAnswer) -> list[str]:
    return [each.text for each in answer.remedies if each.text.startswith("evicting ")]


def of_kind(objects: Sequence[Manifest], name: str, kind: str | None) -> list[Manifest]:
    """Return the objects; one pod has an owner of this kind, or none."""
    return [owned([each], kind)[0] if each["kind"] == "Pod" and each["metadata"]["name"] == name else each for each in objects]


RECREATED = owned(list(NODES))


@dataclass(frozen=True)
class Case:
    """A situation, the eviction that is offered, and what is said of refused ones."""

    objects: list[Manifest]
    evict: list[str]
    budgets: list[Manifest] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def said(names: str, reason: str) -> list[str]:
    return [f"evicting {names} would make it fit, but the API server refuses that now: {reason}"]


CASES = {
    "a controller recreates both": Case(RECREATED, [X]),
    "a budget allows the eviction": Case(RECREATED, [X], [budget("one", 1, ["x"])]),
    "a budget of the cheaper pod allows none": Case(
        RECREATED, [Y], [budget("none", 0, ["x"])], said("team/x", "budget team/none allows no disruption now")
    ),
    "a budget of the other pod allows none": Case(RECREATED, [X], [budget("none", 0, ["y"])]),
    "a budget of both allows none": Case(
        RECREATED, [], [budget("none", 0, ["x", "y"])], said("team/x, team/y", "budget team/none allows no disruption now")
    ),
    "a budget whose status is old": Case(
        RECREATED, [Y], [budget("old", 3, ["x"], observedGeneration=0)], said("team/x", "budget team/old allows no disruption now")
    ),
    "two budgets of one pod": Case(
        RECREATED,
        [Y],
        [budget("p", 3, ["x"]), budget("q", 3, ["x"])],
        said("team/x", "several disruption budgets cover it, which the eviction API refuses"),
    ),
    "nothing recreates the cheaper pod": Case(of_kind(RECREATED, "x", None), [Y]),
    "nothing recreates either": Case(owned(list(NODES), None), [f"{X}; but no controller recreates it"]),
    "an owner of an unknown kind": Case(owned(list(NODES), "Wombat"), [f"{X}; but it is not known whether a Wombat recreates its pods"]),
    "a DaemonSet has the cheaper pod": Case(of_kind(RECREATED, "x", "DaemonSet"), [Y]),
    "a group restarts with the cheaper pod": Case(
        labelled([*RECREATED, *owned(machine_node("c", "t4", {"z": range(4)}))], JOB, "x", "z"), [Y]
    ),
    "one group restarts with either": Case(
        labelled(RECREATED, LWS, "x", "y"),
        [f"{X}; but its LeaderWorkerSet team/llm-2 restarts as a whole (2 pods with 10 GPUs), unless its restartPolicy is None"],
    ),
    "a PodGroup": Case(
        owned(list(NODES), schedulingGroup={"podGroupName": "gang"}),
        [f"{X}; but it is in PodGroup team/gang, whose pods are scheduled together"],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_eviction_that_harms_least_is_offered_and_a_refused_one_is_said(case: Case) -> None:
    answer = answered(case.objects, case.budgets)
    assert (evictions(answer), refusals(answer)) == (case.evict, case.refused)
    assert NOT_CHECKED not in answer.not_checked


@pytest.mark.parametrize("name", ["a DaemonSet has the cheaper pod", "nothing recreates the cheaper pod"])
def test_extender_that_does_not_keep_owners_judges_by_what_it_looks_up(name: str) -> None:
    assert evictions(answered(CASES[name].objects, are_pods_known=False)) == [Y]


def test_eviction_for_good_is_offered_after_remedies_that_harm_less() -> None:
    kinds = {kind: [each.kind for each in answered(owned(list(NODES), kind)).remedies if each.fits] for kind in ("ReplicaSet", None)}
    assert kinds["ReplicaSet"].index("evict") < kinds["ReplicaSet"].index("lower")
    assert kinds[None].index("evict") > kinds[None].index("lower")


def test_pair_that_is_recreated_is_offered_before_a_pod_that_nothing_recreates() -> None:
    objects = [*machine_node("a", "hgx-h100", {"x": range(4)}), *machine_node("b", "hgx-h100", {"p": range(2), "q": range(2, 4)})]
    answer = answered(of_kind(owned(objects), "x", None))
    assert evictions(answer) == ["evict team/p and team/q; then it fits on b and gives 490 GB/s"]


def test_pair_is_refused_where_its_budget_allows_one_disruption() -> None:
    objects = owned(machine_node("a", "hgx-h100", {"x": range(2), "y": range(2, 4)}))
    both = said("team/x and team/y", "budget team/one allows no further disruption")
    assert refusals(answered(objects, [budget("one", 1, ["x", "y"])])) == both
    assert evictions(answered(objects, [budget("two", 2, ["x", "y"])])) == [X.replace("team/x", "team/x and team/y")]


def test_harm_of_one_of_two_pods_names_the_pod() -> None:
    objects = owned(machine_node("a", "hgx-h100", {"x": range(2), "y": range(2, 4)}))
    assert evictions(answered(of_kind(objects, "y", None)))[0].endswith("; but team/y: no controller recreates it")


def test_group_with_a_pod_of_a_higher_priority_is_not_restarted() -> None:
    z = owned(machine_node("c", "t4", {"z": range(4)}), priority=7)
    y = owned(machine_node("b", "hgx-h100", {"y": range(6)}), priority=7)
    objects = labelled([*owned(machine_node("a", "hgx-h100", {"x": range(4)})), *y, *z], JOB, "x", "z")
    assert evictions(answered(objects)) == []
    assert evictions(answered(objects, priority=7)) == [Y], "x restarts z too"


def test_remedy_states_harms_and_groups_in_fields_of_their_own() -> None:
    found = next(each for each in answered(labelled(owned(list(NODES), None), LWS, "x", "y")).remedies if each.kind == "evict")
    assert found.evict == ["team/x"]
    assert found.restarts == [GroupRestart("LeaderWorkerSet", "team/llm-2", 2, 10, "its restartPolicy is None")]
    assert [harm.split(" (")[0] for harm in found.harms] == [
        "no controller recreates it",
        "its LeaderWorkerSet team/llm-2 restarts as a whole",
    ]


def test_nothing_that_is_looked_up_is_known_is_said_and_the_cheapest_pod_is_offered() -> None:
    answer = why_answer(question(waiting_pod(8), *NODES))
    assert evictions(answer) == [X]
    assert NOT_CHECKED in answer.not_checked


def test_budgets_that_could_not_be_read_are_not_checked_and_owners_still_count() -> None:
    objects = of_kind(RECREATED, "x", None)
    facts = replace(facts_of(objects), are_budgets_known=False, unread=("poddisruptionbudgets cannot be listed: 403",))
    answer = why_answer(question(waiting_pod(8), *objects), look_up=lambda _: facts)
    assert evictions(answer) == [Y]
    assert NOT_CHECKED in answer.not_checked
    assert answer.unread == ["poddisruptionbudgets cannot be listed: 403"]


def test_pod_that_could_not_be_read_is_offered_as_not_checked() -> None:
    facts = facts_of([each for each in RECREATED if each["metadata"]["name"] != "x"])
    answer = why_answer(question(waiting_pod(8), *RECREATED), look_up=lambda _: facts)
    assert (evictions(answer), NOT_CHECKED in answer.not_checked) == ([X], True)


def test_answer_without_an_eviction_has_nothing_that_was_not_checked() -> None:
    answer = why_answer(question(waiting_pod(2, min_gpu_memory="140Gi"), *NODES))
    assert (evictions(answer), NOT_CHECKED in answer.not_checked) == ([], False)


def test_only_pods_that_a_remedy_could_evict_are_looked_up_once_and_they_are_known_beforehand() -> None:
    asked: list[tuple[Evictee, ...]] = []

    def look_up(pods: Sequence[Evictee]) -> DisruptionFacts:
        asked.append(tuple(pods))
        return facts_of(RECREATED)

    of_eight = question(waiting_pod(8), *RECREATED)
    why_answer(of_eight, look_up=look_up)
    assert [[pod.full_name for pod in pods] for pods in asked] == [["team/x", "team/y"]]
    assert evictees(of_eight) == asked[0]
    assert evictees(question(waiting_pod(2), *RECREATED)) == (), "it fits"


def test_number_of_pods_that_are_looked_up_is_bounded() -> None:
    many = [each for number in range(40) for each in machine_node(f"n{number}", "t4", {f"p{number}": range(4)})]
    assert len(evictees(question(waiting_pod(4), *many))) == MOST_OPTIONS


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Manifest], list[Manifest]]:
    """One to three nodes whose pods have owners or none, and up to three budgets."""
    objects: list[Manifest] = []
    for number in range(draw(st.integers(1, 3))):
        held: dict[str, Sequence[int]] = {}
        taken = 0
        for place, size in enumerate(draw(st.lists(st.integers(1, 4), max_size=4))):
            if taken + size <= 8:
                held[f"p{number}-{place}"] = range(taken, taken + size)
                taken += size
        for each in machine_node(f"n{number}", "hgx-h100", held, priority=draw(st.integers(0, 2))):
            kind = draw(st.sampled_from(["ReplicaSet", "DaemonSet", "Job", None]))
            labels: dict[str, str] = draw(st.sampled_from([{}, {}, JOB, LWS]))
            objects += labelled(owned([each], kind), labels, *held)
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Pod"]
    budgets = [
        budget(f"b{number}", draw(st.integers(0, 2)), draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
        for number in range(draw(st.integers(0, 3)) if names else 0)
    ]
    return objects, budgets


def covering(name: str, budgets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in budgets if name in each["spec"]["selector"]["matchExpressions"][0]["values"]]


@settings(max_examples=100, deadline=None)
@given(fleets(), st.integers(1, 8), st.integers(0, 2))
def test_no_remedy_evicts_what_the_api_server_refuses_or_what_is_of_higher_priority(
    fleet: tuple[list[Manifest], list[Manifest]], gpus: int, priority: int
) -> None:
    objects, budgets = fleet
    pods = {f"team/{each['metadata']['name']}": each for each in objects if each["kind"] == "Pod"}
    for remedy in answered(objects, budgets, priority=priority, gpus=gpus).remedies:
        evicted = [pods[name] for name in remedy.evict]
        owners = [(each["metadata"]["ownerReferences"] or [{"kind": None}])[0]["kind"] for each in evicted]
        assert "DaemonSet" not in owners
        assert (None in owners) == any("no controller recreates it" in harm for harm in remedy.harms)
        assert all(each["spec"]["priority"] <= priority for each in evicted)
        of_pods = [covering(each["metadata"]["name"], budgets) for each in evicted]
        assert all(len(each) <= 1 for each in of_pods)
        used = [each[0]["metadata"]["name"] for each in of_pods if each]
        assert all(used.count(each["metadata"]["name"]) <= each["status"]["disruptionsAllowed"] for each in budgets)
