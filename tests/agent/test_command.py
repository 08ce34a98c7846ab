"""`fabricwise agent --once` as a process: without a kubelet, without a cluster, without NVML."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from topology.gputopology.manifest_decoding import decode


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_once_prints_the_hardware_and_that_the_allocations_are_unknown_without_kubelet_and_cluster(tmp_path: Path) -> None:
    socket = str(tmp_path / "kubelet.sock")
    options = ["--once", "-o", "yaml", "--node-name", "n", "--pod-resources", socket, "--host-root", str(tmp_path)]
    done = run("tests.agent.fake_driver_process", "hgx-h100", "agent", *options)
    assert done.returncode == 0, done.stderr
    record = decode(yaml.safe_load(done.stdout))
    assert len(record.machine.gpus) == 8
    assert record.status is not None
    assert (record.status.free, record.status.allocated) == (None, ())
    assert record.status.allocations_unknown == f"{socket}: no such socket"


def test_the_package_runs_as_a_module() -> None:
    done = run("extender.__main__", "agent", "--help")
    assert done.returncode == 0, done.stderr
    assert "GpuTopology" in done.stdout
