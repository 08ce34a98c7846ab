"""Runs `fabricwise` commands against a real control plane."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster.processes.control_plane import ControlPlane


def run(plane: ControlPlane, *arguments: str, account: str = "admin") -> tuple[int, str, str]:
    """Run `fabricwise ARGUMENTS... --kubeconfig ...` as `account`. Returns (status, standard output, standard error)."""
    return run_with(plane.kubeconfig(account), *arguments)


def run_with(kubeconfig: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `fabricwise ARGUMENTS... --kubeconfig ...`. Returns (status, standard output, standard error)."""
    command = [sys.executable, "-W", "ignore", "-m", "extender", *arguments, "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr
