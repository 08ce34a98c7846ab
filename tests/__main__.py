"""`python -m tests`, which `make test` runs: all tests, those of the real control plane beside the others.

The tests of a real cluster mostly wait for kube-scheduler, the others mostly compute: together they take little longer than the longer of
the two. Arguments are pytest's; with arguments there is one run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence

PYTEST = (sys.executable, "-m", "pytest")
BESIDE = "tests/cluster"


def run(arguments: Sequence[str]) -> int:
    """Run the tests, print both reports, and return the exit status: that of the first run that failed."""
    if arguments:
        return subprocess.call([*PYTEST, *arguments])
    with tempfile.TemporaryFile() as report:
        beside = subprocess.Popen([*PYTEST, BESIDE], stdout=report, stderr=subprocess.STDOUT)
        try:
            status = subprocess.call([*PYTEST, f"--ignore={BESIDE}"])
            print(f"\n{BESIDE}, which ran beside these:", flush=True)
            beside_status = beside.wait()
        finally:
            beside.terminate()
            beside.wait()
        report.seek(0)
        sys.stdout.buffer.write(report.read())
        sys.stdout.flush()
    return status or beside_status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
