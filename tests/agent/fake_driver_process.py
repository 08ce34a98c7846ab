"""The agent as a process whose driver is the fake: `python -m tests.agent.fake_driver_process PLATFORM agent ...`.

A file named by $FAKE_LOST holds indices of GPUs that have fallen off the bus, if it exists.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from extender import __main__
from tests.agent.fake_nvml import FakeNvml
from topology.agent import nvml
from topology.platforms import machine_of


class Falling(FakeNvml):
    """Loses GPUs when the file says so."""

    def nvmlInit(self) -> None:
        file = Path(os.environ.get("FAKE_LOST", "/nonexistent"))
        self.lost = {int(index) for index in file.read_text().split()} if file.exists() else set()


if __name__ == "__main__":
    nvml.pynvml = Falling(machine_of(sys.argv.pop(1)))
    __main__.main()
