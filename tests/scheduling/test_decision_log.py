"""The decision log is bounded by bytes, newest first."""

from __future__ import annotations

import threading

import pytest

from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.scorers import NO_RANKS
from extender.decision.evaluate.verdict import Evidence, verdict_of
from extender.decision.report.placement_record import placement_record_of
from extender.decision.request.kubernetes_objects import Meta, Pod, PodSpec
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from extender.scheduling.decision_log import Decision, DecisionLog


def decision(number: int, nodes: int = 10) -> Decision:
    names = NodeNames([f"node-{n}" for n in range(nodes)])
    verdict = verdict_of(Rejection(Reason.TOO_FEW_FREE, ""), Evidence())
    spec = Pod(Meta(), PodSpec())
    verdicts = NodeVerdicts.of([verdict] * nodes)
    return Decision(
        float(number), "filter", f"pod-{number}", "default", "", spec, Demand((), 0), names, verdicts, NO_RANKS, 12 * nodes, 0.1, 1
    )


def test_decisions_are_listed_newest_first_and_the_oldest_are_dropped() -> None:
    size_bytes = decision(0).size_bytes()
    log = DecisionLog(3 * size_bytes + size_bytes // 2)
    for number in range(10):
        log.add(decision(number))
    assert [kept.pod for kept in log.recent()] == ["pod-9", "pod-8", "pod-7"]


def test_decision_on_many_nodes_counts_with_the_bytes_of_all_of_them() -> None:
    log = DecisionLog(200_000)
    for number in range(20):
        log.add(decision(number, nodes=5000))
    assert len(list(log.recent())) == 0, "a single decision is larger than the log"
    assert decision(0, 5000).size_bytes() > 200_000


def test_log_of_zero_bytes_keeps_no_decision() -> None:
    log = DecisionLog(0)
    log.add(decision(1))
    assert list(log.recent()) == []


def test_number_of_unsettled_decisions_is_bounded() -> None:
    log = DecisionLog(1 << 30)
    for number in range(5000):
        log.add(decision(number))
    assert log.unsettled <= 1024


def test_verb_does_not_wait_while_the_size_of_a_decision_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    log, computes, may_end = DecisionLog(1 << 20), threading.Event(), threading.Event()

    def slow(self: Decision) -> int:
        computes.set()
        assert may_end.wait(30)
        return 1

    monkeypatch.setattr(Decision, "size_bytes", slow)
    log.add(decision(1))
    settling = threading.Thread(target=log.settle)
    settling.start()
    assert computes.wait(30)
    log.add(decision(2))
    log.add_record("uid", placement_record_of("uid", "n", Evidence()))
    assert log.record("uid") is not None
    may_end.set()
    settling.join(30)
    assert [kept.pod for kept in log.recent()] == ["pod-2", "pod-1"]
