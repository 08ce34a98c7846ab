"""`python -m tests`, which `make test` runs: all tests, those of the real control plane beside the others.

The tests of a real cluster mostly wait for kube-scheduler, the others mostly compute: together they take little longer than the longer of
the two. Arguments are pytest's; with arguments there is one run. A run that does not end prints where it stands, and fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

PYTEST = (sys.executable, "-m", "pytest")
BESIDE = "tests/cluster"
MOST_SECONDS = 70 * 60.0
"""Of all tests: four times what they take on two cores that have nothing else to do."""
_DYING_SECONDS = 10.0


def begin(arguments: Sequence[str], report: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start pytest; its output goes to `report`, if that is given."""
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}  # so that SIGABRT prints what each thread does
    errors = None if report is None else subprocess.STDOUT
    return subprocess.Popen([*PYTEST, *arguments], env=environment, stdout=report, stderr=errors)


def ended(tests: subprocess.Popen[bytes], until_seconds: float) -> int:
    """Wait for pytest, and return its exit status. `until_seconds`: by `time.monotonic()`; later it is ended with a report."""
    try:
        return tests.wait(max(0.0, until_seconds - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(
            f"\nFAILED: the tests have not ended within {MOST_SECONDS:g} s; what each thread does is printed", file=sys.stderr, flush=True
        )
        tests.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            tests.wait(_DYING_SECONDS)
        tests.kill()
        tests.wait()
        return 1


def run(arguments: Sequence[str]) -> int:
    """Run the tests, print both reports, and return the exit status: that of the first run that failed."""
    if arguments:
        return subprocess.call([*PYTEST, *arguments])
    until_seconds = time.monotonic() + MOST_SECONDS
    with tempfile.TemporaryFile() as report:
        beside = begin([BESIDE], report)
        try:
            status = ended(begin([f"--ignore={BESIDE}"]), until_seconds)
            print(f"\n{BESIDE}, which ran beside these:", flush=True)
            beside_status = ended(beside, until_seconds)
        finally:
            beside.terminate()
            beside.wait()
        report.seek(0)
        sys.stdout.buffer.write(report.read())
        sys.stdout.flush()
    return status or beside_status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
