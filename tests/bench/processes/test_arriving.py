"""The benchmark's telemetry generator ends with its parent process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_SECONDS = 30.0
"""Time within which the process must end."""

PARENT = """
import subprocess, sys
command = [sys.executable, "-m", "tests.bench.processes.arriving", "emit", *sys.argv[1:]]
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.read(1)  # it runs
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("rounds", ["1", "1000000"], ids=["silent after one round", "still sending"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_telemetry_generator_ends_when_its_parent_ends(tmp_path: Path, rounds: str, number: signal.Signals) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps({"items": [{"kind": "GpuTopology", "metadata": {"name": "node"}, "spec": {"gpus": [{}]}}]}))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(dump), rounds], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as said:
        generator = os.pidfd_open(int(said.readline()))
    try:
        parent.send_signal(number)
        parent.wait(PATIENCE_SECONDS)
        ended, _, _ = select.select([generator], [], [], PATIENCE_SECONDS)  # a pidfd is readable once its process has ended
        assert ended, "the generator outlives its parent"
    finally:
        if not select.select([generator], [], [], 0)[0]:
            signal.pidfd_send_signal(generator, signal.SIGKILL)
        os.close(generator)
