"""The bind verb: what is evaluated again, and what is answered. Against a real API server: tests/cluster/scheduling/test_conformance.py."""

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
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Listed
from extender.kube.objects.decode import seen
from extender.kube.writing.pod_binding import PodBinding
from extender.scheduling.binder import NOT_SYNCED, Binder
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.ports import NO_API_SERVER
from extender.settings import Settings
from tests.objects import GPU, node, pod, pod_struct, topology
from tests.scheduling.cluster_writers import RecordingWriter
from topology.agent.publisher import ApiError

FOUR = Demand(((4, False),), 4)


@dataclass
class Desk:
    """A binder, its state, and a writer that keeps the bindings."""

    store: ClusterStore = field(default_factory=lambda: ClusterStore(GPU, warm_tables=False))
    writer: RecordingWriter = field(default_factory=RecordingWriter)
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.log = DecisionLog(1 << 20)
        context = EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, self.store.defaults)
        self.binder = Binder(self.store, context, self.settings, self.log, self.writer)

    def list(self, *manifests: dict[str, Any]) -> None:
        kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
        for kind, listed in kinds.items():
            self.store.apply([Listed(listed, tuple(seen(kind, one) for one in manifests if one["kind"] == kind))])

    def bind(self, uid: str = "uid-llm", node: str = "a") -> str:
        return self.binder.bind("team", "llm", uid, node)

    def assume(self, uid: str, placed_seconds: float = 0.0) -> None:
        """Place an assumed pod of four GPUs on node a."""
        self.store.assume(
            AssumedPod(
                key=uid,
                namespace="team",
                name=uid,
                node="a",
                demand=FOUR,
                evidence=Evidence(),
                placed_monotonic_seconds=placed_seconds,
                until_monotonic_seconds=float("inf"),
                decision="",
            )
        )


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.list(node("a", 8), topology("a", "dgx-1v"), node("b", 8), topology("b", "dgx-1v"), pod(4))
    return desk


def test_feasible_pod_is_bound_with_its_record_and_assumed(desk: Desk) -> None:
    assert desk.bind() == ""
    ((uid, where, annotations),) = desk.writer.bindings
    assert (uid, where, list(annotations)) == ("uid-llm", "a", ["fabricwise.dev/decision"])
    assert list(desk.store.assumed_pods.by_pod) == ["uid-llm"]
    record = desk.log.record("uid-llm")
    assert record is not None
    assert record.node == "a"


def test_node_that_was_taken_since_the_decision_is_refused_and_nothing_is_written(desk: Desk) -> None:
    desk.assume("uid-llm")
    desk.store.apply([seen("Pod", pod(8, name="foreign", node="a"))])
    assert "too few free GPUs" in desk.bind()
    assert desk.writer.bindings == []
    assert desk.store.assumed_pods.by_pod == {}, "the pod is not assumed any more"


def test_pod_that_was_decided_later_does_not_count_against_the_pod_that_is_bound(desk: Desk) -> None:
    """The prediction for the later pod includes this pod. If each counted against the other, both would be refused."""
    for seconds, uid in enumerate(("uid-llm", "uid-later")):
        desk.assume(uid, float(seconds))
    desk.list(node("a", 4), pod(4))
    assert desk.bind() == ""
    desk.store.release("uid-llm")
    assert "stand in the way" in desk.bind(), "without a decision before the other pod's, it comes after that pod"


def test_error_of_the_api_server_is_answered_and_the_pod_stays_assumed(desk: Desk) -> None:
    desk.writer.binding_error = "no answer"
    assert desk.bind() == "no answer"
    assert list(desk.store.assumed_pods.by_pod) == ["uid-llm"], "it may be bound all the same"


def test_pod_that_is_bound_already_is_success_on_its_node_and_an_error_on_another(desk: Desk) -> None:
    desk.store.apply([seen("Pod", pod(4, node="a"))])
    desk.writer.pod = pod_struct(pod(4, node="a"))
    assert desk.bind() == ""
    assert "already bound to a" in desk.bind(node="b")
    assert desk.writer.bindings == []


def test_pod_that_is_bound_in_the_state_and_replaced_since_is_no_success(desk: Desk) -> None:
    """The watch shows a deletion some milliseconds after the API server has done it."""
    desk.store.apply([seen("Pod", pod(4, node="a"))])
    assert desk.bind() == "pod team/llm is not there", "deleted"
    desk.writer.pod = pod_struct(pod(4, name="llm-1"))
    assert "replaced by another" in desk.bind(), "the pod that is read has another uid"
    assert desk.writer.bindings == []


def test_pod_that_the_watch_has_not_shown_yet_is_read_from_the_api_server(desk: Desk) -> None:
    desk.list(node("a", 8), topology("a", "dgx-1v"))
    assert desk.bind() == "pod team/llm is not there"
    desk.writer.pod = pod_struct(pod(4))
    assert desk.bind() == ""
    assert "replaced by another" in desk.bind(uid="uid-of-yesterday")


def test_nothing_is_bound_before_the_first_list() -> None:
    assert Desk().bind() == NOT_SYNCED


def test_service_that_cannot_write_refuses_to_bind() -> None:
    assert Desk(writer=RecordingWriter(is_read_only=True)).bind() == NO_API_SERVER


def test_pod_of_another_scheduler_is_bound_without_an_evaluation() -> None:
    desk = Desk(settings=Settings(scheduler_names=("gpu-scheduler",)))
    desk.list(node("a", 4), pod(8))
    assert desk.bind() == ""
    assert desk.store.assumed_pods.by_pod == {}


@dataclass
class ApiServer:
    """Answers create with `refusal`, and get with `pod`."""

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


NO_ANSWER, CONFLICT = ApiError(0, "no answer"), ApiError(409, "pod llm is already assigned")
THERE, ELSEWHERE, PENDING = pod(4, node="a"), pod(4, node="b"), pod(4)
OTHER = {**THERE, "metadata": {**THERE["metadata"], "uid": "uid-new"}}

# case -> (result of the write, the pod as it is read then, the answer; the empty string is success)
ANSWERS: dict[str, tuple[ApiError | None, dict[str, Any] | ApiError, str]] = {
    "written": (None, PENDING, ""),
    "no answer, but it was written": (NO_ANSWER, THERE, ""),
    "no answer, and it was not": (NO_ANSWER, PENDING, "no answer"),
    "no answer, and none to the read either": (NO_ANSWER, ApiError(0, "down"), "could not be read"),
    "bound before to the same node": (CONFLICT, THERE, ""),
    "bound before to another node": (CONFLICT, ELSEWHERE, "already bound to b"),
    "another pod of that name": (CONFLICT, OTHER, "replaced by another"),
    "deleted since": (ApiError(404, "pods llm not found"), ApiError(404, "not found"), "pods llm not found"),
    "not allowed": (ApiError(403, "forbidden"), PENDING, "forbidden"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_success_is_answered_only_for_a_pod_that_is_bound(case: str) -> None:
    refusal, shown, answer = ANSWERS[case]
    error = PodBinding(ApiServer(refusal, shown)).bind("team", "llm", "uid-llm", "a", {})  # type: ignore[arg-type]
    assert answer in error if answer else error == ""


class BarrierWriter(RecordingWriter):
    """Each binding waits until eight are written at the same time."""

    together = threading.Barrier(8, timeout=10)

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        self.together.wait()
        return ""


def test_eight_bindings_are_written_at_the_same_time() -> None:
    desk = Desk(writer=BarrierWriter())
    pods = [pod(1, name="llm") for _ in range(8)]
    for number, manifest in enumerate(pods):
        manifest["metadata"]["uid"] = f"uid-{number}"
    desk.list(node("a", 8), topology("a", "dgx-1v"), *pods)
    errors: list[str] = []
    threads = [threading.Thread(target=lambda n=n: errors.append(desk.bind(f"uid-{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == [""] * 8
