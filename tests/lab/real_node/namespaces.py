"""A command in mount and pid namespaces of its own: when it ends, or is killed, all its processes, containers and mounts are gone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile

from tests.cluster.assets.kube_assets import cache_folder
from tests.lab.real_node import cgroups


def run(command: list[str], environment: dict[str, str]) -> int:
    """The command's exit status. One lab at a time on a machine: a second one waits. Removes the lab's cgroup."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / ".lab-lock").open("a") as lock, tempfile.TemporaryDirectory(prefix="fabricwise-lab-") as folder:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another lab runs on this machine; waiting until it ends", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        cgroup = f"fabricwise-lab-{os.getpid()}"
        # bash is process 1 of the pid namespace: it reaps; when it ends the kernel ends all that is left and drops the mounts
        wrapped = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", '"$@"; exit $?', "lab", *command]
        signal.signal(signal.SIGTERM, _interrupted)
        child = subprocess.Popen(wrapped, env={**os.environ, **environment, "FABRICWISE_LAB": folder, cgroups.NAME: cgroup})
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            return child.wait()
        finally:
            cgroups.remove(cgroup)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
