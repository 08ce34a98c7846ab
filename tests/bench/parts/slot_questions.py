"""Part `slots`: how long the slots of all sizes, and advice on moves, take in one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from extender.cli.reading import Reading, read_cluster
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.slots.defrag_search import DefragSearch
from extender.decision.slots.pod_moves import PodMover
from extender.decision.slots.slot_question import SlotQuestion
from extender.decision.slots.slot_summary import slots_of
from extender.server.from_settings import ranker
from extender.settings import Scoring, Settings
from extender.sources.collected_disruptions import CollectedDisruptions
from tests.bench.clusters import GPU, Cluster
from tests.bench.report_rows import Row
from tests.bench.run import Run

AIM_SECONDS = 2.0
"""For four sizes on 5,000 nodes."""
FEW_STATES = 10
AIMED_NODES = 5000


def slots(run: Run) -> list[Row]:
    """Return CPU seconds per question, for few and for many distinct states.

    The first question with a floor computes the bandwidth of every set of each kind of machine, which a server has done at its start.
    """
    rows = []
    for states in (FEW_STATES, run.sizes.sight_states):
        nodes = run.sizes.nodes
        run.say(f"slots, {nodes:,} nodes, {states:,} states")
        collected = CollectedDisruptions()
        reading = _cluster(run.folder, Cluster(nodes, states, nodes, 1.0, run.sizes.platforms), collected)
        case = f"{nodes:,} nodes, {states:,} states"
        for name, question in (("4 sizes", SlotQuestion()), ("4 sizes, floor 200 GB/s", SlotQuestion(floor_gbps=200.0))):
            for order in ("first", "second"):
                seconds = _cpu_seconds(partial(slots_of, reading.snapshot, question, GPU))
                is_aimed = nodes == AIMED_NODES and (order == "second" or question.floor_gbps is None)
                rows.append(Row("slots", case, f"CPU s, {name}, {order} question", seconds, aim=AIM_SECONDS if is_aimed else None))
        search = _search(reading, collected)
        rows.append(Row("slots", case, "CPU s, advice on 5 moves for pods of 8 GPUs", _cpu_seconds(search.advise)))
    return rows


def _cluster(folder: Path, cluster: Cluster, collected: CollectedDisruptions) -> Reading:
    file = folder / "cluster.json"
    file.write_text(cluster.dump())
    return read_cluster(str(file), Settings(), collect=collected)


def _search(reading: Reading, collected: CollectedDisruptions) -> DefragSearch:
    evaluator = Evaluator(DEFAULT_POLICY)
    evaluator.learn(reading.snapshot)
    context = EvaluationContext(evaluator, GPU, NODE_DEFAULTS)
    mover = PodMover(context, ranker(Scoring()), NO_ASSUMED_PODS, 0.0)
    return DefragSearch(reading.snapshot, 8, collected.facts(), mover, DEFAULT_POLICY)


def _cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
