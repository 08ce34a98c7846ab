"""One bad object, node, pod or observer harms nothing else, and is named in answers and logs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.decision.evaluate import evaluator as evaluator_module
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.node import node_view
from extender.decision.node.node_state import NodeState
from extender.decision.report.serializers import explain
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Change, Listed, PodGone
from extender.decision.state.fold import pod_changes, view_derivation
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.isolation import SetAside
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects import decode as decode_module
from extender.kube.objects.decode import gone, seen, seen_or_set_aside
from extender.scheduling.cluster_store import ClusterStore
from extender.server.from_settings import ranker
from extender.server.service import build_service
from extender.settings import Scoring, Settings
from tests.conftest import Served
from tests.faults import BrokenError, break_step, raising_for
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology
from tests.scheduling.cluster_writers import RecordingWriter, cluster_of
from topology.placement.placement_table import PlacementTable

Manifest = dict[str, Any]


def listing(*objects: Manifest) -> list[Change]:
    kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
    return [Listed(kinds[kind], tuple(seen_or_set_aside(kind, m) for m in objects if m["kind"] == kind)) for kind in kinds]


MALFORMED: dict[str, tuple[str, Manifest, str]] = {
    "a node whose labels are a list": ("Node", node("bad") | {"metadata": {"name": "bad", "labels": []}}, "nodes/bad"),
    "a pod whose containers are text": ("Pod", pod(1, name="bad", spec={"containers": "x"}), "pods/uid-bad"),
    "a pod whose priority is text": ("Pod", pod(1, name="bad", node="good", spec={"priority": "high"}), "pods/uid-bad"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_object_that_cannot_be_decoded_is_set_aside_in_a_list_and_the_rest_is_listed(case: str) -> None:
    _, bad, key = MALFORMED[case]
    state = fold_all(Snapshot(), listing(bad, node("good"), pod(1, name="waits")), GPU)
    assert state.synced
    assert set(state.nodes) == {"good"}
    assert set(state.pending) == {"uid-waits"}
    assert set(state.set_aside) == {key}
    assert state.set_aside[key].stage == "decode"


def test_bound_pod_that_becomes_malformed_keeps_its_gpus_through_a_relist_until_it_is_deleted() -> None:
    held = pod(2, name="llm", node="a")
    state = fold_all(Snapshot(), listing(node("a"), held), GPU)
    broken = pod(2, name="llm", node="a", spec={"priority": "high"})
    state = fold_all(state, listing(node("a"), broken), GPU)
    assert state.views["a"].state.requested == 2
    assert state.set_aside["pods/uid-llm"].node == "a"
    mended = fold_all(state, [seen("Pod", held)], GPU)
    assert not mended.set_aside
    state = fold_all(state, [gone("Pod", broken)], GPU)
    assert (state.views["a"].state.requested, dict(state.set_aside)) == (0, {})


def test_object_set_aside_and_absent_from_the_next_list_is_forgotten() -> None:
    state = fold_all(Snapshot(), listing(pod(1, name="bad", spec={"containers": "x"})), GPU)
    assert set(state.set_aside) == {"pods/uid-bad"}
    assert not fold_all(state, listing(), GPU).set_aside


def test_set_aside_object_with_an_older_version_than_the_known_one_is_not_news() -> None:
    fresh = seen("Node", node("a") | {"metadata": {"name": "a", "resourceVersion": "9"}})
    state = fold_all(Snapshot(), [fresh, SetAside("nodes", "a", "decode", "malformed", "a", 5)], GPU)
    assert not state.set_aside


def test_pod_that_cannot_be_folded_leaves_the_pods_after_it_and_what_was_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    state = fold_all(Snapshot(), listing(node("a"), pod(2, name="bad", node="a")), GPU)
    break_step(monkeypatch, pod_changes, "pending_pod", "uid-bad", lambda one, *_: one.key)
    batch = [seen("Pod", pod(4, name="bad", node="a")), seen("Pod", pod(1, name="next", node="a"))]
    relist = listing(node("a"), pod(4, name="bad", node="a"), pod(1, name="next", node="a"))
    for changes in (batch, relist):
        state = fold_all(state, changes, GPU)
        assert state.views["a"].state.requested == 3, "two of the pod set aside, as known before, and one"
        assert state.asked["uid-bad"] == (2,), "nothing of it was written"
        assert state.set_aside["pods/uid-bad"].why == "BrokenError: made to fail for uid-bad"
        assert state.listed == {"nodes", "pods", "topologies"}


def test_node_whose_topology_breaks_its_view_is_evaluated_by_counts_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    break_step(monkeypatch, node_view, "table_for", "8", lambda machine: str(len(machine.gpus)))
    state = snapshot(node("bad"), topology("bad", "hgx-h100"), node("good", 4), topology("good", "t4"))
    assert state.views["good"].state.table is not None
    assert state.views["bad"].state.table is None
    assert "made to fail" in (state.views["bad"].problem or "")
    answer = explain(Evaluator(Policy({1: 1.0})), ranker(Scoring()), state, pod_struct(pod(1)), GPU)
    notes = {row["node"]: " ".join(row["notes"]) for row in answer["nodes"]}
    assert "nodes/bad set aside (derive): BrokenError" in notes["bad"]
    assert "set aside" not in notes["good"]


def test_node_without_any_view_is_rejected_as_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    break_step(monkeypatch, view_derivation, "view_of", "bad", lambda sources, *_: sources.node.metadata.name)
    state = snapshot(node("bad"), node("good"))
    answer = explain(Evaluator(Policy({1: 1.0})), ranker(Scoring()), state, pod_struct(pod(1)), GPU)
    refused = {row["node"]: row["rejection"]["reason"] if row["rejection"] else None for row in answer["nodes"]}
    assert refused == {"good": None, "bad": "fabricwise could not evaluate this node"}
    monkeypatch.undo()
    assert not fold_all(state, [seen("Node", node("bad", 4))], GPU).set_aside, "well again, and not set aside any more"


def broken_evaluation(monkeypatch: pytest.MonkeyPatch, name: str, store: ClusterStore) -> None:
    """The evaluation of one node's state raises."""

    def state_name(_demand: Demand, state: NodeState, *_: object) -> str:
        view = store.snapshot.views.get(name)
        return name if view is not None and state in (view.state, view.state.without_telemetry) else ""

    monkeypatch.setattr(
        evaluator_module, "evaluate_without_telemetry", raising_for(name, evaluator_module.evaluate_without_telemetry, state_name)
    )


def test_filter_rejects_only_the_node_whose_evaluation_raises_as_unresolvable(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.service.store.apply([seen("Node", node("bad", 3)), seen("Node", node("good", 5))])
    broken_evaluation(monkeypatch, "bad", served.service.store)
    manifest = pod(1, annotations={"fabricwise.dev/min-gpu-memory": "1Gi"})
    answer = served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": ["bad", "good", "nowhere"]}).json()
    assert not answer.get("Error")
    assert answer["NodeNames"] == ["good"]
    assert answer["FailedAndUnresolvableNodes"] == {"bad": "fabricwise could not evaluate this node"}
    assert answer["FailedNodes"] == {"nowhere": "node is not yet known to fabricwise"}
    found = served.client.post("/v1/explain", json=manifest).json()
    detail = next(row["rejection"]["detail"] for row in found["nodes"] if row["node"] == "bad")
    assert detail == "BrokenError: made to fail for bad"
    assert 'fabricwise_objects_set_aside_total{kind="nodes",stage="evaluate"}' in served.client.get("/metrics").text
    monkeypatch.undo()
    served.service.store.apply([seen("Node", node("other", 2))])
    answer = served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": ["bad", "good"]}).json()
    assert answer["NodeNames"] == ["bad", "good"], "evaluated anew after the next change of state"


def test_nodes_endpoint_lists_what_is_set_aside_with_its_node(served: Served) -> None:
    broken = seen_or_set_aside("Pod", pod(2, name="llm", node="good", spec={"priority": "high"}))
    served.service.store.apply([seen("Node", node("good")), broken, SetAside("nodes", "lost", "decode", "malformed", "lost")])
    answer = served.client.get("/v1/nodes").json()
    (note,) = next(row["set_aside"] for row in answer["nodes"] if row["node"] == "good")
    assert note.startswith("pods/uid-llm set aside (decode): Pod llm: Expected")
    assert {entry["name"] for entry in answer["set_aside"]} == {"uid-llm", "lost"}
    assert served.client.get("/v1/nodes/good").json()["set_aside"] == [note]


def test_snapshot_is_published_although_a_placement_table_cannot_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def warm(_table: PlacementTable) -> None:
        raise BrokenError("no table")

    monkeypatch.setattr(PlacementTable, "warm", warm)
    store, noted = ClusterStore(GPU), list[tuple[str, str, str]]()
    store.note = lambda kind, stage, name, _error: noted.append((kind, stage, name))
    store.apply(listing(node("a", 4), topology("a", "t4"), node("b"), pod(1)))
    assert set(store.snapshot.views) == {"a", "b"}
    assert noted == [("topologies", "warm", "a")]


OBSERVERS = ("extender.server.service.observe_outcomes", "extender.scheduling.owed_events.OwedEvents.observe")


@pytest.mark.parametrize("failing", OBSERVERS)
def test_observer_that_raises_stops_neither_other_observers_nor_the_store(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenError(failing)

    monkeypatch.setattr(failing, broken)
    service = build_service(Settings())
    heard: list[Snapshot] = []
    monkeypatch.setattr(service.requeuer, "observe", lambda _before, after: heard.append(after))
    service.store.apply(listing(node("a"), pod(1)))
    assert [state.synced for state in heard] == [True]
    assert service.store.snapshot.synced


def test_pod_whose_placement_cannot_be_recorded_does_not_affect_other_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.scheduling import owed_events as module

    writer = RecordingWriter()
    service = build_service(Settings(), cluster_of(writer))
    service.store.apply(listing(node("a"), pod(1, name="bad"), pod(1, name="good")))
    break_step(monkeypatch, module, "demand_in", "uid-bad", lambda _state, one, _resource: one.key)
    service.store.apply([seen("Pod", pod(1, name=name, node="a")) for name in ("bad", "good")])
    assert [bound.key for bound, _ in writer.placements] == ["uid-good"]


def test_model_annotation_with_extreme_numbers_never_raises() -> None:
    from extender.decision.cycle.scheduling_cycle import demand_in

    fields = {"layers": 80, "hidden_size": 8192, "attention_heads": 64, "kv_heads": 8, "head_size": 128, "parameters": 70 * 10**9}
    extremes = (1e308, -1, 0, 5e-324, 1 << 60, 1 << 39, (1 << 50) - 1, 16)
    names = (*fields, "weight_bytes", "dtype_bytes", "context", "vocabulary", "intermediate_size", "latent_size", "embedding_parameters")
    arguments = ["serve", "m", "-tp", "999999999", "--max-model-len", "999999999M", "--gpu-memory-utilization", "5e-324"]
    for name in names:
        for value in extremes:
            annotations = {"fabricwise.dev/model": json.dumps({**fields, name: value})}
            manifest = pod(1, annotations=annotations)
            manifest["spec"]["containers"][0] |= {"image": "vllm/vllm-openai", "args": arguments}
            demand_in(Snapshot(), pod_struct(manifest), GPU)


def test_deletion_of_a_malformed_pod_is_decoded() -> None:
    broken = pod(2, name="llm", spec={"containers": "x"})
    assert gone("Pod", broken) == PodGone("uid-llm")
    assert gone("Pod", broken | {"metadata": {"name": "llm", "namespace": "team", "uid": 5}}) == PodGone("team/llm")


def test_unexpected_error_of_the_decoder_affects_only_its_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    break_step(monkeypatch, decode_module, "decode", "bad", lambda manifest: str(manifest["metadata"]["name"]))
    state = fold_all(Snapshot(), listing(node("bad"), topology("bad", "hgx-h100"), node("good"), topology("good", "hgx-h100")), GPU)
    assert "BrokenError: made to fail for bad" in (state.views["bad"].problem or "")
    assert state.views["good"].state.table is not None


def test_preempt_evaluates_the_other_candidates_where_one_node_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.decision.cycle import preemption
    from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
    from extender.decision.cycle.preemption import Candidate, preferred
    from extender.decision.cycle.scheduling_cycle import EvaluationContext, begin
    from extender.decision.node.node_state import NODE_DEFAULTS

    rows = [thing for name in ("bad", "good") for thing in (node(name, 1), pod(1, name=f"on-{name}", node=name))]
    state, asking = snapshot(*rows), pod_struct(pod(1, spec={"priority": 10}))
    break_step(monkeypatch, preemption, "without_pods", "bad", lambda _state, name, *_: name)
    cycle = begin(state, NO_ASSUMED_PODS, asking, GPU, 0.0)
    assert isinstance(cycle.demand, Demand)
    candidates = [Candidate(name, (f"uid-on-{name}",)) for name in ("bad", "good")]
    found = preferred(cycle, cycle.demand, candidates, (), EvaluationContext(Evaluator(Policy({1: 1.0})), GPU, NODE_DEFAULTS))
    assert [one.candidate.node for one in found] == ["good"]


def test_node_check_that_raises_affects_neither_other_checks_nor_other_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.decision.report.checks import node_checks as module
    from extender.decision.report.checks.stack_checks import driver
    from extender.telemetry.conditions import TUNING

    state = snapshot(node("bad"), node("good"))
    broken = [raising_for("bad", check, lambda subject: subject.name) if check is driver else check for check in module.CHECKS]
    for check, plain in zip(broken, module.CHECKS, strict=True):
        check.__name__ = plain.__name__
    monkeypatch.setattr(module, "CHECKS", tuple(broken))
    found = {one["node"]: {check["check"]: check["evidence"] for check in one["checks"]} for one in module.all_reports(state, GPU, TUNING)}
    assert found["bad"]["driver"] == "the check itself failed: BrokenError: made to fail for bad"
    assert set(found["bad"]) == set(found["good"]) == {check.__name__ for check in module.CHECKS}
    assert "failed" not in found["good"]["driver"]
