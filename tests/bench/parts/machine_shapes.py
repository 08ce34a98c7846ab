"""Part `machines`: what one machine shape costs by its number of GPUs, and the parser of telemetry beside that of prometheus-client."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from prometheus_client.parser import text_string_to_metric_families

from extender.telemetry import dcgm
from extender.telemetry.exposition import parse
from tests.bench.report_rows import Row
from tests.bench.run import Run
from tests.exporters import dcgm_text
from topology.placement.shared_tables import fresh_table
from topology.platforms import machine_of

PLATFORMS = ("t4", "hgx-h100", "dgx-1v", "rtx4090", "dgx-2")
"""Four, eight (three kinds of links) and sixteen GPUs."""


def machines(run: Run) -> list[Row]:
    """Return seconds per table of all sets of GPUs, milliseconds of the slowest prediction, and the rate of the telemetry parser."""
    rows = []
    for name in PLATFORMS:
        run.say(f"the table of {name}")
        machine = machine_of(name)
        table = fresh_table(machine)
        case = f"{name}, {len(machine.gpus)} GPUs"
        rows.append(Row("machines", case, "s, table of all sets", _seconds(table.warm)))
        every, predictor = (1 << len(machine.gpus)) - 1, fresh_table(machine).predictor
        slowest = max(_seconds(partial(predictor.predict, every, ((size, False),))) for size in range(1, 1 + table.size))
        rows.append(Row("machines", case, "ms, slowest prediction", 1000 * slowest))
    return [*rows, _parsing()]


def _parsing() -> Row:
    text = dcgm_text({f"GPU-{n}": {f"DCGM_FI_DEV_OTHER_{m}": m for m in range(12)} for n in range(8)})
    lines = text.count("\n")
    ours = min(_seconds(lambda: dcgm.devices(parse(text, dcgm.wanted, whole=True).samples)) for _ in range(50))
    theirs = min(
        _seconds(lambda: [sample for family in text_string_to_metric_families(text) for sample in family.samples]) for _ in range(10)
    )
    figure = "lines/s of DCGM exposition to readings"
    return Row("machines", "exposition of 8 GPUs", figure, lines / ours, lines / theirs, "prometheus-client, to samples")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
