"""The service behind the verbs and explain: one evaluation for all of them, typed values in and out, and what follows from a decision."""

from __future__ import annotations

import time
from typing import Any

import pytest

from extender.decision.cycle.preemption import Candidate
from extender.decision.cycle.scheduling_cycle import Evaluation
from extender.decision.evaluate.scorers import Ranker
from extender.decision.state.changes import ClockTicked, WatchLost
from extender.scheduling.ports import NO_API_SERVER
from extender.scheduling.scheduling_service import FOREIGN, NotDecided, SchedulingService
from extender.server.service import Service, build_service
from extender.settings import Settings
from extender.sources.simulated import simulated
from tests.objects import GPU, pod, pod_struct


def listed(**settings: Any) -> Service:
    """Return a service on the simulated cluster that cannot write."""
    service = build_service(Settings(**settings))
    service.store.apply(simulated(GPU).listing())
    return service


@pytest.fixture
def service() -> SchedulingService:
    return listed().scheduling


def nodes(service: SchedulingService) -> list[str]:
    return sorted(service.store.snapshot.views)


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_explain_decides_and_scores_as_prioritize_does(service: SchedulingService, gpus: int) -> None:
    wanted = pod_struct(pod(gpus))
    explained = service.explain(wanted, service.moment())
    assert list(explained.names) == nodes(service)
    assert service.prioritize(wanted, nodes(service), 0) == explained.scores()
    assert service.store.assumed_pods.by_pod[wanted.key].node == explained.decided_node


def test_filter_gives_each_node_the_verdict_that_explain_gives_it(service: SchedulingService) -> None:
    wanted = pod_struct(pod(8))
    explained, filtered = service.explain(wanted, service.moment()), service.filter(wanted, nodes(service), 0)
    assert isinstance(filtered, Evaluation)
    assert list(filtered.verdicts) == list(explained.verdicts)


def test_explain_places_no_assumed_pod_and_logs_no_decision(service: SchedulingService) -> None:
    service.explain(pod_struct(pod(2)), service.moment())
    assert service.store.assumed_pods.by_pod == {}
    assert list(service.log.recent()) == []


def test_excluded_node_has_a_verdict_and_neither_rank_nor_decision(service: SchedulingService) -> None:
    wanted = pod_struct(pod(2))
    first = service.explain(wanted, service.moment()).decided_node
    assert first is not None
    others = service.explain(wanted, service.moment(), {first})
    assert others.decided_node not in (None, first)
    assert len(others.verdicts) == len(nodes(service))


def test_prioritize_ranks_once_and_not_at_all_without_gpus(service: SchedulingService, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: list[object] = []
    rank = Ranker.rank

    def counted(self: Ranker, demand: Any, *arguments: Any) -> Any:
        ranked.append(demand)
        return rank(self, demand, *arguments)

    monkeypatch.setattr(Ranker, "rank", counted)
    assert service.prioritize(pod_struct(pod(0)), nodes(service), 0) == [0] * len(nodes(service))
    assert ranked == []
    service.prioritize(pod_struct(pod(2)), nodes(service), 0)
    assert len(ranked) == 1


def test_pod_of_another_scheduler_is_not_evaluated_nor_logged() -> None:
    service = listed(scheduler_names=("gpu-scheduler",)).scheduling
    foreign, candidates = pod_struct(pod(2, spec={"schedulerName": "volcano"})), [Candidate("t4-0", ("uid-a",))]
    assert service.filter(foreign, nodes(service), 0) is FOREIGN
    assert service.prioritize(foreign, nodes(service), 0) == [0] * len(nodes(service))
    assert service.preempt(foreign, candidates) == candidates
    assert list(service.log.recent()) == []


def test_filter_and_preempt_decide_nothing_before_the_first_list() -> None:
    service = build_service(Settings()).scheduling
    for outcome in (service.filter(pod_struct(pod(2)), ["a"], 0), service.preempt(pod_struct(pod(2)), [Candidate("a", ("uid-a",))])):
        assert isinstance(outcome, NotDecided)
        assert outcome.cause == "not synced"


def test_filter_and_preempt_decide_nothing_on_a_state_that_is_too_old() -> None:
    built = listed()
    lost = time.monotonic() - 2 * built.settings.kube.max_state_age_seconds
    built.store.apply([ClockTicked(time.time(), lost), WatchLost("pods", lost)])
    service = built.scheduling
    for outcome in (service.filter(pod_struct(pod(2)), ["a"], 0), service.preempt(pod_struct(pod(2)), [Candidate("a", ("uid-a",))])):
        assert isinstance(outcome, NotDecided)
        assert outcome.cause == "stale"


def test_service_without_a_cluster_to_write_to_refuses_to_bind(service: SchedulingService) -> None:
    assert service.bind("team", "llm", "uid-llm", "t4-0") == NO_API_SERVER
