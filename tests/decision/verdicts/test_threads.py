"""The memories of evaluator and ranker with the threads of a running extender: watch, verbs, bindings, requeue, explain."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from extender.decision.evaluate import evaluator as evaluator_module
from extender.decision.evaluate import scorers
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes
from extender.decision.evaluate.mask_evidence import _of_small_machine, mask_evidence, question_of
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.scorers import Ranker
from extender.decision.request.pod_request import Demand
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import node, snapshot
from topology.devices.prediction import MOST_REMEMBERED, MOST_REMEMBERED_LARGE, Kubelet
from topology.placement.set_table import MOST_ANSWERS
from topology.placement.shared_tables import fresh_table, table_for
from topology.platforms import machine_of

THREADS, ROUNDS = 5, 1_000
DEMANDS = [Demand(((size, False),), size, inferred_memory_bytes=extra) for size in (1, 2, 4) for extra in range(1, 5)]


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Switch threads after every few instructions."""
    default = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(default)


def run_together(work: Callable[[random.Random], object]) -> list[BaseException]:
    """Run `work` in several threads, many times each. Return what was raised."""
    raised: list[BaseException] = []
    begin = threading.Barrier(THREADS)

    def run(seed: int) -> None:
        chance = random.Random(seed)
        begin.wait()
        for _ in range(ROUNDS):
            try:
                work(chance)
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_evaluator_and_ranker_answer_five_threads_correctly_while_they_forget(
    eager_switches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator_module, "_MOST_DEMANDS", 3)
    monkeypatch.setattr(evaluator_module, "_SPARE_STATES", -8)
    monkeypatch.setattr(scorers, "_MOST_CACHED_DEMANDS", 2)
    state = snapshot(*(node(f"n{gpus}", gpus) for gpus in range(5)))
    names = sorted(state.views)
    evaluator, ranks = Evaluator(Policy({1: 1.0}), threading.RLock()), ranker(Scoring(), threading.Lock())
    right = {demand: [demand.total <= state.views[name].state.allocatable for name in names] for demand in DEMANDS}

    def work(chance: random.Random) -> None:
        demand = chance.choice(DEMANDS)
        verdicts = evaluate_nodes(evaluator, state, demand, names)
        assert [verdict.feasible for verdict in verdicts] == right[demand]
        ranked = ranks.rank(demand, verdicts)
        assert all((ranked.get(verdict) is not None) is verdict.feasible for verdict in verdicts)
        if chance.random() < 0.3:
            evaluator.prepare([view.state for view in state.views.values()], state)

    assert run_together(work) == []


def test_service_gives_evaluator_and_ranker_a_lock_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.server import service as module
    from extender.settings import Settings

    locks: list[object] = []

    def ranker_with(scoring: Scoring, lock: AbstractContextManager[object]) -> Ranker:
        locks.append(lock)
        return ranker(scoring, lock)

    monkeypatch.setattr(module, "ranker", ranker_with)
    service = module.build_service(Settings())
    assert isinstance(service.requeuer._evaluator._lock, type(threading.RLock()))
    assert [type(lock) for lock in locks] == [type(threading.Lock())]


@pytest.mark.parametrize("platform", ["hgx-h100", "dgx-2"])
def test_memories_of_a_table_are_bounded_for_any_requests(platform: str) -> None:
    table = fresh_table(machine_of(platform))
    most = MOST_REMEMBERED if table.size <= 8 else MOST_REMEMBERED_LARGE
    chance = random.Random(1)
    for _ in range(most + 500):
        free, size = chance.randrange(1 << table.size), chance.randrange(1, 3)
        table.predictor.predict(free, ((1, False), (0, bool(size % 2)), (1, False)))
        table.predictor.predict(free, ((size, False),))
        table.predictor.predict_sets(free, ((size, False), (1, False)))
        assert table.capabilities(((size, 1.0),))[free] == table.capability(free, {size: 1.0})
        table.effective_gbps(free, str(1 << chance.randrange(10, 36)))
        table.capability(free, {size: 1.0})
    for memory in (table.predictor._remembered, table.predictor.draws._prefer):
        assert memory.cache_info().maxsize == most
        assert memory.cache_info().currsize <= most
    assert table.predictor._remembered_sets.cache_info().currsize <= 128
    for size in (1, 2):
        assert len(table.capabilities(((size, 1.0),))) <= MOST_ANSWERS
    for kept in (table.sets._by_mask, table.sets._effective, table.sets._extremes, table.sets._capability, table.sets._of_kind):
        assert kept.cache_info().maxsize == MOST_ANSWERS


def test_threads_that_evaluate_one_demand_at_once_get_the_same_evidence(eager_switches: None) -> None:
    table = fresh_table(machine_of("dgx-1v"))
    question = question_of(Demand(((2, False), (1, False)), 3), "mixed", ((1, 0.5), (4, 0.5)))
    right = {free: mask_evidence(table_for(machine_of("dgx-1v")), Kubelet(), question, free) for free in range(16)}

    def work(chance: random.Random) -> None:
        free = chance.randrange(16)
        if chance.random() < 0.1:
            _of_small_machine.cache_clear()
        found = mask_evidence(table, Kubelet(), question, free)
        assert found.loss == pytest.approx(right[free].loss)
        assert dict(found.chances) == pytest.approx(dict(right[free].chances))

    assert run_together(work) == []
