"""The lab's tests are collected only inside the lab's namespaces: `make lab-test`."""

from __future__ import annotations

import os

from tests.lab.real_node.ending_signals import interrupt_on_signals

collect_ignore_glob = [] if os.environ.get("FABRICWISE_LAB") else ["test_*.py"]

if os.environ.get("FABRICWISE_LAB"):
    interrupt_on_signals()
