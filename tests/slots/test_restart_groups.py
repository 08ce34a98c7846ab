"""Groups that restart as a whole when one of their pods is evicted: they are recognised, counted as cost, and named in the advice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.decision.disruption.disruption_facts import facts_of
from extender.decision.disruption.evictions import Evictee, GroupRestart, disrupted, restart_text, whole_groups
from extender.decision.disruption.restart_groups import restart_group_of
from extender.decision.request.kubernetes_objects import Meta
from extender.decision.slots.defrag_answer import DefragAnswer, Move
from extender.kube import disruptions
from extender.kube.disruptions import KubeDisruptions
from extender.kube.listing import ListApi
from tests.cli.commands import Commands
from tests.kube.api_server import api_server
from tests.slots.machines_in_use import Objects, machine_node
from tests.slots.moved_clusters import advised, labelled, owned
from topology.agent.publisher import ApiError

LWS = {
    "leaderworkerset.sigs.k8s.io/name": "llm",
    "leaderworkerset.sigs.k8s.io/group-index": "0",
    "leaderworkerset.sigs.k8s.io/group-key": "5d41402abc",
}
CLUSTER = owned(
    [
        *machine_node("a", "hgx-h100", {"one": (0,)}),
        *machine_node("b", "hgx-h100", {"two": (0, 1)}),
        *machine_node("c", "hgx-h100", {"five": (0, 1, 2, 3, 4)}),
    ]
)
"""A pod of one GPU on a, and one of two GPUs on b: the first is the cheaper one to move, to c."""


def only_move(answer: DefragAnswer) -> Move:
    (step,) = answer.steps
    (move,) = step.moves
    return move


GROUPS: dict[str, tuple[dict[str, str], str | None]] = {
    "a LeaderWorkerSet": (LWS, "LeaderWorkerSet"),
    "a JobSet": ({"jobset.sigs.k8s.io/jobset-name": "train"}, "JobSet"),
    "a training job": ({"training.kubeflow.org/job-name": "train"}, "training job"),
    "the head of a RayCluster": ({"ray.io/cluster": "ray", "ray.io/node-type": "head"}, "RayCluster"),
    "a worker of a RayCluster": ({"ray.io/cluster": "ray", "ray.io/node-type": "worker"}, None),
    "a Ray replica of several hosts": (
        {"ray.io/cluster": "ray", "ray.io/node-type": "worker", "ray.io/worker-group-replica-name": "w-1"},
        "Ray worker replica",
    ),
    "a Deployment": ({"app": "x", "pod-template-hash": "1"}, None),
    "a label without a value": ({"jobset.sigs.k8s.io/jobset-name": ""}, None),
}


@pytest.mark.parametrize(("labels", "kind"), GROUPS.values(), ids=GROUPS)
def test_group_that_restarts_with_a_pod_is_recognised_by_its_labels(labels: dict[str, str], kind: str | None) -> None:
    group = restart_group_of(Meta(name="p", namespace="team", labels=labels))
    assert (group.kind.kind if group is not None else None) == kind


def test_move_names_the_group_that_restarts_with_its_pod_and_counts_all_of_it() -> None:
    objects = owned(
        [*machine_node("a", "hgx-h100", {"one": (0,)}), *machine_node("b", "hgx-h100", {"five": (0, 1, 2, 3, 4)})], kind="StatefulSet"
    )
    move = only_move(advised(labelled(objects, LWS, "one", "five"), 8, moves=1))
    assert move.name == "one"
    assert move.restarts == GroupRestart("LeaderWorkerSet", "team/llm-0", 2, 6, "its restartPolicy is None")


def test_pod_whose_eviction_restarts_a_large_group_costs_more_than_a_larger_pod_alone() -> None:
    assert only_move(advised(CLUSTER, 8, moves=1)).name == "one"
    grouped = labelled(CLUSTER, {"jobset.sigs.k8s.io/jobset-name": "train"}, "one", "five")
    assert only_move(advised(grouped, 8, moves=1)).name == "two", "the group has six GPUs"


def test_group_with_a_pod_of_a_higher_priority_has_that_priority() -> None:
    high = owned(machine_node("d", "hgx-h100", {"high": (0,)}), priority=9)
    facts = facts_of([each for each in labelled([*CLUSTER, *high], LWS, "one", "high") if each["kind"] == "Pod"], ())
    assert disrupted([Evictee("uid-one", "team", "one", 0, 1)], whole_groups(facts, {})).priority == 9


def test_group_of_one_pod_restarts_no_other() -> None:
    assert only_move(advised(labelled(CLUSTER, LWS, "one"), 8, moves=1)).restarts is None


def test_two_pods_of_one_group_restart_it_once() -> None:
    facts = facts_of([each for each in labelled(CLUSTER, LWS, "one", "two") if each["kind"] == "Pod"], ())
    both = [Evictee("uid-one", "team", "one", 0, 1), Evictee("uid-two", "team", "two", 0, 2)]
    whole = disrupted(both, whole_groups(facts, {}))
    assert (whole.pods, len(whole.groups)) == (2, 1)


def test_table_says_which_group_restarts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with api_server(tmp_path) as api:
        api.add(*labelled(CLUSTER, LWS, "one", "two"))
        ended = Commands(monkeypatch, capsys)("defrag", "--size", "8", "--moves", "1", "--kubeconfig", str(api.kubeconfig), "-o", "wide")
    text = " ".join(ended.out.split())
    assert "team/one: its LeaderWorkerSet team/llm-0 restarts as a whole (2 pods with 3 GPUs), unless its restartPolicy is None." in text


def test_group_of_unknown_size_is_said_to_be_of_unknown_size() -> None:
    assert "(how many pods that are is not known)" in restart_text(GroupRestart("JobSet", "team/train", None, None, None))


class Api(ListApi):
    """Answers lists of pods by their selectors, as an API server does."""

    def __init__(self, pods: Objects, most: int = 1_000, refused: str = "") -> None:
        self.pods, self.most, self.refused = pods, most, refused
        self.asked: list[tuple[str, str]] = []

    def get(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        if not path.endswith("/pods"):
            return {"metadata": {}, "items": []}
        selector, value = query[0]
        self.asked.append((selector, value))
        if selector == self.refused:
            raise ApiError(403, f"GET {path}: 403 pods is forbidden")
        left, _, right = value.partition("=")
        found = [
            pod
            for pod in self.pods
            if (pod["metadata"]["name"] == right if left == "metadata.name" else (pod["metadata"].get("labels") or {}).get(left) == right)
        ]
        return {"metadata": {"continue": "more"} if len(found) > self.most else {}, "items": found[: self.most]}


PODS = [each for each in labelled(CLUSTER, LWS, "one", "five") if each["kind"] == "Pod"]
ONE, TWO = Evictee("uid-one", "team", "one", 0, 1), Evictee("uid-two", "team", "two", 0, 2)


def groups_of(api: Api, *pods: Evictee) -> tuple[dict[str, GroupRestart], tuple[str, ...]]:
    manifests = KubeDisruptions(api).read(pods)
    facts = facts_of(manifests.pods, manifests.budgets, manifests.unread, manifests.unlisted_groups)
    return {key: group.restart for key, group in whole_groups(facts, {}).items()}, facts.unread


def test_extender_lists_the_pods_of_the_groups_of_the_considered_pods_alone() -> None:
    api = Api(PODS)
    groups, unread = groups_of(api, ONE, TWO)
    assert (groups["uid-one"].pods, "uid-two" in groups, unread) == (2, False, ())
    assert api.asked[2:] == [("labelSelector", "leaderworkerset.sigs.k8s.io/group-key=5d41402abc")]


def test_group_with_more_pods_than_one_page_has_an_unknown_size() -> None:
    assert groups_of(Api(PODS, most=1), ONE)[0]["uid-one"].pods is None


def test_group_whose_pods_may_not_be_listed_has_an_unknown_size_and_the_missing_verb_is_named() -> None:
    groups, unread = groups_of(Api(PODS, refused="labelSelector"), ONE)
    assert groups["uid-one"].pods is None
    assert "kubectl auth can-i list pods -n team" in unread[0]


def test_more_groups_than_the_bound_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disruptions, "MOST_GROUPS", 0)
    api = Api(PODS)
    groups, unread = groups_of(api, ONE)
    assert (groups["uid-one"].pods, unread) == (None, ("1 of 1 groups that restart as a whole were not counted in time",))
    assert not [each for each in api.asked if each[0] == "labelSelector"]


def test_answer_with_a_group_is_read_back_as_it_was_written() -> None:
    answer = advised(labelled(CLUSTER, LWS, "one", "two"), 8, moves=1)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=DefragAnswer) == answer
