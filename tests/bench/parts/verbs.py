"""Part `verbs`: filter and prioritize over one keep-alive connection, beside the floor, request by request in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender, Timings
from tests.bench.processes.servers import api, fabricwise, floor
from tests.bench.report_rows import Row, percentile
from tests.bench.run import Run

AIMS = {100: 1.5, 500: 1.5, 5000: 2.0, 20_000: 2.5}
"""Names -> largest accepted ratio of the medians (issue 16)."""
P99_AIM = 2.0
GPU_PODS = 5000
"""Running GPU pods, at most."""
KNOWN = (5000, 20_000)
"""Nodes that the extender knows: the first number that is not below the number of names."""


def verbs(run: Run) -> list[Row]:
    """Return p50 and p99 per verb, number of names and number of distinct states."""
    rows: list[Row] = []
    with floor() as bare:
        for states in run.sizes.states:
            for known, sizes in _by_known(list(run.sizes.rounds)).items():
                cluster = Cluster(known, states, min(known, GPU_PODS), gpu_pod_share=1.0, platforms=run.sizes.platforms)
                run.say(f"starting, {known:,} nodes, {states:,} states")
                with ExitStack() as stack:
                    source = stack.enter_context(api(cluster))
                    ours = stack.enter_context(fabricwise(source, run.folder))
                    extenders = [Extender("Fabricwise", ours.connection), Extender("floor", bare.connection), *run.rivals]
                    cycles = Cycles(source, cluster.names(), extenders)
                    cycles.warm(known)
                    for names in sizes:
                        run.say(f"{names:,} names, {states:,} states")
                        rows += _rows(names, states, cycles.run(names, run.sizes.rounds[names]))
    return rows


def _by_known(names: Sequence[int]) -> dict[int, list[int]]:
    grouped: dict[int, list[int]] = {}
    for count in names:
        known = next((size for size in KNOWN if size >= count), count) if count >= 100 else max(names)
        grouped.setdefault(known, []).append(count)
    return grouped


def _rows(names: int, states: int, timings: dict[str, Timings]) -> list[Row]:
    rows = []
    rivals = [name for name in timings if name not in ("Fabricwise", "floor")]
    for verb in ("filter", "prioritize"):
        taken = {name: getattr(one, verb) for name, one in timings.items()}
        for percent, aim in ((50, AIMS.get(names)), (99, P99_AIM)):
            figures = {name: 1000 * percentile(seconds, percent) for name, seconds in taken.items() if seconds}
            beside = {name: figures[name] for name in rivals if name in figures}
            case = f"{verb}, {names:,} names, {states:,} states"
            rows.append(Row("verbs", case, f"p{percent} ms", figures["Fabricwise"], figures["floor"], "floor", aim, rivals=beside))
    attempts, asked = timings["Fabricwise"].attempts, len(timings["Fabricwise"].filter)
    if attempts > asked:
        rows.append(Row("verbs", f"filter, {names:,} names, {states:,} states", "attempts per pod", attempts / asked))
    return rows
