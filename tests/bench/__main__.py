"""`make bench`: the speed of Fabricwise, as ratios within one run; docs/performance.md explains the method and the columns."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from tests.bench import part_sizes
from tests.bench.cycles import Extender
from tests.bench.parts.beside_load import beside_load
from tests.bench.parts.beside_questions import beside_questions
from tests.bench.parts.beside_watchers import beside_watchers
from tests.bench.parts.bursts import bursts
from tests.bench.parts.computations import computations
from tests.bench.parts.growth import growth
from tests.bench.parts.machine_shapes import machines
from tests.bench.parts.sight_requests import sight_requests
from tests.bench.parts.slot_questions import slots
from tests.bench.parts.start_memory import memory
from tests.bench.parts.telemetry_load import telemetry_load
from tests.bench.parts.verbs import verbs
from tests.bench.processes.servers import BenchmarkError, Connection
from tests.bench.report_rows import Row, table
from tests.bench.run import Run

PARTS: dict[str, Callable[[Run], list[Row]]] = {
    "verbs": verbs,
    "load": beside_load,
    "watchers": beside_watchers,
    "questions": beside_questions,
    "telemetry": telemetry_load,
    "sight": sight_requests,
    "memory": memory,
    "cluster": bursts,
    "machines": machines,
    "compute": computations,
    "slots": slots,
    "growth": growth,
}
"""Name for `--only` -> the part, in the order in which they run."""
LONG_PARTS = frozenset({"growth"})
"""Parts that run only with `--full`, or when they are named."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(PARTS), metavar="PART", help=f"one of {', '.join(PARTS)}; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    parser.add_argument("--full", action="store_true", help="more rounds, and 5,000 nodes for the real kube-scheduler; takes longer")
    parser.add_argument("--tiny", action="store_true", help="a few rounds on tiny clusters: whether the benchmark works, no figures")
    parser.add_argument(
        "--rival",
        action="append",
        default=[],
        metavar="NAME=FILTER_URL[,PRIORITIZE_URL]",
        help="another extender that is asked the same, for example hived=http://127.0.0.1:9096/v1/extender/filter",
    )
    options = parser.parse_args(given)
    try:
        options.rivals = [rival(text) for text in options.rival]
    except ValueError as error:
        parser.error(str(error))
    return options


def rival(text: str) -> Extender:
    """Return the extender that an option `--rival` names. Raises ValueError."""
    name, _, urls = text.partition("=")
    addresses = urls.split(",")
    if not name or len(addresses) > 2 or not all(url.startswith("http://") for url in addresses):
        raise ValueError(f"--rival {text}: give NAME=http://HOST:PORT/PATH, and the address of prioritize after a comma")
    parts = [url.removeprefix("http://").partition("/") for url in addresses]
    if len({host for host, _, _ in parts}) > 1:
        raise ValueError(f"--rival {text}: filter and prioritize are asked over one connection: give the same HOST:PORT")
    paths = [f"/{path}" for _, _, path in parts]
    return Extender(name, Connection(f"http://{parts[0][0]}"), paths[0], paths[1] if len(paths) > 1 else None, is_rival=True)


def measured(options: argparse.Namespace, console: Console) -> tuple[list[Row], dict[str, float], list[str]]:
    """Return (all rows, seconds per part, parts that failed); a part that fails, or is interrupted, hides no other part."""
    chosen = options.only or [part for part in PARTS if options.full or part not in LONG_PARTS]
    size = part_sizes.TINY if options.tiny else part_sizes.FULL if options.full else part_sizes.DEFAULT
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    failed: list[str] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[step]}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="fabricwise-bench-") as folder, Progress(*columns, console=console) as progress:
        for part in (part for part in PARTS if part in chosen):
            task = progress.add_task(part, total=None, step="")
            started = time.monotonic()
            try:
                rows += PARTS[part](Run(size, Path(folder), partial(_say, progress, task), options.rivals))
            except (BenchmarkError, AssertionError, OSError, httpx.HTTPError, http.client.HTTPException) as error:
                console.print(f"part {part} failed: {error}", style="red", markup=False)
                failed.append(part)
            except (KeyboardInterrupt, SystemExit):  # what was measured before is still reported
                failed.append(part)
                break
            seconds[part] = time.monotonic() - started
            progress.update(task, step="done", total=1, completed=1)
    return rows, seconds, failed


def _say(progress: Progress, task: TaskID, step: str) -> None:
    progress.update(task, step=step)


def end_on_sigterm() -> None:
    """Let SIGTERM end the benchmark as an exception does, so that servers are ended and files removed."""

    def leave(*_: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)


def main() -> None:
    """Measure, print one table, and write the JSON."""
    options = arguments()
    end_on_sigterm()
    started = time.time()
    rows, seconds, failed = measured(options, Console(stderr=True))
    Console(width=None if sys.stdout.isatty() else 150).print(table(rows))
    print(f"{sum(seconds.values()):.0f} s: " + ", ".join(f"{part} {spent:.0f}" for part, spent in seconds.items()))
    if options.json is not None:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        report = {"at": started, "machine": machine, "seconds": seconds, "failed": failed, "rows": [row.as_json() for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
