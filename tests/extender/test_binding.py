"""The bind verb's own part: what is judged anew, and what is said of it. Against a real API server: tests/cluster/test_conformance.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.evaluate.verdict import Evidence
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand
from extender.decision.state.reducer import Listed
from extender.kube.decode import seen
from extender.kube.pod_binding import PodBinding
from extender.scheduling.binder import NO_API_SERVER, NOT_SYNCED, Binder
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.ports import ClusterWriter
from extender.settings import Settings
from tests.objects import GPU, node, pod, pod_struct, topology
from topology.agent.publisher import ApiError


@dataclass
class Desk:
    """A binder, and what it wrote."""

    store: ClusterStore = field(default_factory=lambda: ClusterStore(GPU, warm_tables=False))
    writer: ClusterWriter = field(default_factory=ClusterWriter)
    written: list[tuple[str, str]] = field(default_factory=list)
    answer: str = ""
    there: Pod | str = "pod team/llm is not there"
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.log = DecisionLog(1 << 20)
        context = EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, self.store.defaults)
        self.binder = Binder(self.store, context, self.settings, self.log, self.writer)
        self.writer.bind, self.writer.pod = self.write, lambda _namespace, _name: self.there

    def write(self, namespace: str, name: str, uid: str, where: str, annotations: dict[str, str]) -> str:
        self.written.append((uid, where))
        assert list(annotations) == ["fabricwise.dev/decision"]
        return self.answer

    def list(self, *manifests: dict[str, Any]) -> None:
        kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
        for kind, listed in kinds.items():
            self.store.apply([Listed(listed, tuple(seen(kind, one) for one in manifests if one["kind"] == kind))])

    def bind(self, uid: str = "uid-llm", where: str = "a") -> str:
        return self.binder.bind("team", "llm", uid, where)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.list(node("a", 8), topology("a", "dgx-1v"), node("b", 8), topology("b", "dgx-1v"), pod(4))
    return desk


def test_a_pod_that_fits_is_bound_with_its_record_and_held(desk: Desk) -> None:
    assert desk.bind() == ""
    assert desk.written == [("uid-llm", "a")]
    assert list(desk.store.assumed_pods.by_pod) == ["uid-llm"]
    record = desk.log.record("uid-llm")
    assert record is not None
    assert record.node == "a"


def test_a_node_that_was_taken_meanwhile_is_refused_and_nothing_is_written(desk: Desk) -> None:
    desk.store.assume(AssumedPod("uid-llm", "team", "llm", "a", Demand(((4, False),), 4), Evidence(), 0.0, float("inf"), ""))
    desk.store.apply([seen("Pod", pod(8, name="foreign", node="a"))])
    assert "too few free GPUs" in desk.bind()
    assert desk.written == []
    assert desk.store.assumed_pods.by_pod == {}, "it is held no more"


def test_who_was_decided_later_does_not_come_first(desk: Desk) -> None:
    """The later one has reckoned with this pod; this pod need not reckon with the later one, or both would be refused."""
    demand = Demand(((4, False),), 4)
    for number, name in enumerate(("uid-llm", "uid-later")):
        desk.store.assume(AssumedPod(name, "team", name, "a", demand, Evidence(), float(number), float("inf"), ""))
    desk.list(node("a", 4), pod(4))
    assert desk.bind() == ""
    desk.store.release("uid-llm")
    assert "stand in the way" in desk.bind(), "not decided before the other, it comes after it"


def test_the_api_servers_words_are_passed_on(desk: Desk) -> None:
    desk.answer = "no answer"
    assert desk.bind() == "no answer"
    assert list(desk.store.assumed_pods.by_pod) == ["uid-llm"], "it may be bound all the same"


def test_bound_already_is_success_there_and_an_error_elsewhere(desk: Desk) -> None:
    desk.store.apply([seen("Pod", pod(4, node="a"))])
    assert desk.bind() == ""
    assert "already bound to a" in desk.bind(where="b")
    assert desk.written == []


def test_a_pod_our_watch_has_not_shown_yet_is_looked_up(desk: Desk) -> None:
    desk.list(node("a", 8), topology("a", "dgx-1v"))
    assert desk.bind() == "pod team/llm is not there"
    desk.there = pod_struct(pod(4))
    assert desk.bind() == ""
    assert "replaced by another" in desk.bind(uid="uid-of-yesterday")


def test_without_a_cluster_or_before_the_first_list_nothing_is_bound() -> None:
    desk = Desk()
    assert desk.bind() == NOT_SYNCED
    desk.writer.bind = None
    assert desk.bind() == NO_API_SERVER


def test_a_pod_of_another_scheduler_is_bound_unjudged() -> None:
    desk = Desk(settings=Settings(scheduler_names=("gpu-scheduler",)))
    desk.list(node("a", 4), pod(8))
    assert desk.bind() == ""
    assert desk.store.assumed_pods.by_pod == {}


@dataclass
class ApiServer:
    """Answers create and get as told."""

    refusal: ApiError | None
    pod: dict[str, Any] | ApiError

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        assert (path, manifest["metadata"]["uid"]) == ("/api/v1/namespaces/team/pods/llm/binding", "uid-llm")
        if self.refusal is not None:
            raise self.refusal
        return {}

    def get(self, path: str) -> dict[str, Any]:
        if isinstance(self.pod, ApiError):
            raise self.pod
        return self.pod


SILENCE, CONFLICT = ApiError(0, "no answer"), ApiError(409, "pod llm is already assigned")
THERE, ELSEWHERE, PENDING = pod(4, node="a"), pod(4, node="b"), pod(4)
OTHER = {**THERE, "metadata": {**THERE["metadata"], "uid": "uid-new"}}

# (what came of the write, what a look shows) -> what is said; the empty string is success
TOLD: dict[str, tuple[ApiError | None, dict[str, Any] | ApiError, str]] = {
    "written": (None, PENDING, ""),
    "no answer, but it was written": (SILENCE, THERE, ""),
    "no answer, and it was not": (SILENCE, PENDING, "no answer"),
    "no answer, and none to the look either": (SILENCE, ApiError(0, "down"), "could not be read"),
    "written by somebody before us, there": (CONFLICT, THERE, ""),
    "written by somebody before us, elsewhere": (CONFLICT, ELSEWHERE, "already bound to b"),
    "another pod of that name": (CONFLICT, OTHER, "replaced by another"),
    "deleted meanwhile": (ApiError(404, "pods llm not found"), ApiError(404, "not found"), "pods llm not found"),
    "not allowed": (ApiError(403, "forbidden"), PENDING, "forbidden"),
}


@pytest.mark.parametrize("case", TOLD)
def test_success_is_said_only_of_a_pod_that_is_bound(case: str) -> None:
    refusal, shown, told = TOLD[case]
    error = PodBinding(ApiServer(refusal, shown)).bind("team", "llm", "uid-llm", "a", {})  # type: ignore[arg-type]
    assert told in error if told else error == ""


def test_many_at_once_wait_for_no_lock_of_ours(desk: Desk) -> None:
    """Eight bindings are in the API server's hands at the same time."""
    together = threading.Barrier(8, timeout=10)

    def write(_namespace: str, _name: str, uid: str, where: str, _annotations: dict[str, str]) -> str:
        together.wait()
        return ""

    desk.writer.bind = write
    pods = [pod(1, name="llm") for _ in range(8)]
    for number, one in enumerate(pods):
        one["metadata"]["uid"] = f"uid-{number}"
    desk.store.apply([seen("Pod", one) for one in pods])
    errors: list[str] = []
    threads = [threading.Thread(target=lambda n=n: errors.append(desk.bind(f"uid-{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == [""] * 8
