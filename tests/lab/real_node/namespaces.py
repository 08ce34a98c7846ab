"""A command in mount and pid namespaces of its own: when it ends, or is killed, all its processes, containers and mounts are gone."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Mapping, Sequence

from tests.cluster.assets.kube_assets import cache_folder
from tests.lab.real_node import cgroups
from tests.lab.real_node.ending_signals import EndingSignals

ORDER_SECONDS = 60.0
"""How long a lab that is told to end may take: each of its programs has ten seconds, most take less than one."""

# bash is process 1 of the pid namespace: it reaps; when it ends the kernel ends all that is left and drops the mounts
_IN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", '"$@"; exit $?', "lab")
# the kernel kills `unshare`, and by that the namespace, when this process is killed
_WITH_THIS_PROCESS = ("setpriv", "--pdeathsig", "KILL")


def run(command: Sequence[str], environment: Mapping[str, str], order_seconds: float = ORDER_SECONDS) -> int:
    """The command's exit status. One lab at a time on a machine: a second one waits. Removes the lab's cgroup.

    SIGINT, SIGTERM and SIGHUP end it: the command is told by SIGTERM, and after `order_seconds` killed. It starts with the three signals
    blocked, and unblocks them by `ending_signals.interrupt_on_signals`.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (
        EndingSignals(order_seconds) as signals,
        (cache_folder() / ".lab-lock").open("a") as lock,
        tempfile.TemporaryDirectory(prefix="fabricwise-lab-") as folder,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another lab runs on this machine; waiting until it ends", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        cgroup = f"fabricwise-lab-{os.getpid()}"
        wrapped = [*_WITH_THIS_PROCESS, *_IN_NAMESPACES, *command]
        try:
            child = signals.start(wrapped, {**os.environ, **environment, "FABRICWISE_LAB": folder, cgroups.NAME: cgroup})
            return signals.status(child.wait())
        finally:
            cgroups.remove(cgroup)
