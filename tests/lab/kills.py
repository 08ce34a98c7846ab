"""kill -9 of the steerer, the plugin or the kubelet during a burst of pods: which pods fail, and how long no GPU can be allocated."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.processes.control_plane import wait_for
from tests.lab.lab import Lab, container, pod
from tests.lab.real_node.ending_signals import children
from tests.lab.real_node.node import RESOURCE
from topology.agent.pod_resources import PodResources, PodResourcesError


@dataclass(slots=True)
class Gaps:
    """When the kubelet had fewer healthy devices than the node has GPUs, or did not answer. Watches in a thread of its own."""

    count: int
    seconds: list[float] = field(default_factory=list)
    """Length of each gap."""
    stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Until `stop` is set."""
        kubelet, since = PodResources(timeout_seconds=1.0), None
        while not self.stop.is_set():
            now = time.monotonic()
            try:
                healthy = sum(len(one.device_ids) for one in kubelet.allocatable() if one.resource == RESOURCE)
            except PodResourcesError as error:
                if "rejected by rate limit" in str(error):
                    continue
                healthy = 0
            if healthy < self.count:
                since = since if since is not None else now
            elif since is not None:
                self.seconds.append(now - since)
                since = None
            self.stop.wait(0.03)  # the kubelet refuses more than 100 requests a second
        if since is not None:
            self.seconds.append(time.monotonic() - since)


def kill_worker(lab: Lab) -> None:
    """Kill the steerer's serving process; its parent starts it anew."""
    for child in _workers(lab):
        os.kill(child, signal.SIGKILL)


def kill_steerer(lab: Lab) -> None:
    """Kill the steerer's parent process, and start another steerer, which takes over from the serving process that is left."""
    assert lab.node.steerer is not None
    lab.node.steerer.kill()
    lab.node.steerer.start()


def kill_container(lab: Lab) -> None:
    """Kill both processes of the steerer, as the end of its container does, and start it as a container runtime would, but at once."""
    assert lab.node.steerer is not None
    workers = _workers(lab)
    lab.node.steerer.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    lab.node.steerer.start()


def _workers(lab: Lab) -> list[int]:
    """The steerer's serving process. It is away for the moments of its restart."""
    assert lab.node.steerer is not None
    return children(lab.node.steerer.pid)


def kill_plugin(lab: Lab) -> None:
    """Kill NVIDIA's plugin, and start it."""
    lab.node.plugin.kill()
    lab.node.plugin.start()


def kill_kubelet(lab: Lab) -> None:
    """Kill the kubelet, and start it."""
    lab.node.kubelet.kill()
    lab.node.kubelet.start()


FAULTS: dict[str, Callable[[Lab], None]] = {
    "worker": kill_worker,
    "steerer": kill_steerer,
    "container": kill_container,
    "plugin": kill_plugin,
    "kubelet": kill_kubelet,
}


@dataclass(frozen=True, slots=True)
class FaultOutcome:
    """What a fault did to a burst of pods."""

    fault: str
    pods: int
    failed: tuple[str, ...]
    """Messages of pods that the kubelet refused, or how their containers ended."""
    gap_seconds: tuple[float, ...]
    seconds_until_allocatable: float
    """From the fault until the Node offers all GPUs and pods run again."""


def burst(lab: Lab, fault: str, kills: int = 3) -> FaultOutcome:
    """Pods of one GPU, each deleted once it is admitted, one after another; meanwhile the fault strikes `kills` times."""
    gaps = Gaps(len(lab.node.machine.gpus))
    watcher = threading.Thread(target=gaps.watch)
    watcher.start()
    killer = threading.Thread(target=_strike, args=(lab, fault, kills))
    killer.start()
    failed, number = [], 0
    try:
        while killer.is_alive():
            name = f"{fault}-{number}"
            lab.create(pod(name, [container("main", 1)]))
            found = lab.wait_pod(name, lambda one: one["status"].get("phase") in ("Running", "Failed"), 20)
            if found.get("status", {}).get("phase") == "Failed":
                failed.append(_why(found["status"]))
            lab.plane.client.delete(f"/api/v1/namespaces/default/pods/{name}")
            number += 1
        started = time.monotonic()
        lab.node.wait_allocatable()
        wait_for("the burst's pods are gone", lambda: not [one for one in lab.plane.pods() if one.startswith(fault)])
        recovered = time.monotonic() - started
    finally:
        killer.join()
        gaps.stop.set()
        watcher.join()
    return FaultOutcome(fault, number, tuple(failed), tuple(round(one, 3) for one in gaps.seconds), round(recovered, 2))


def _why(status: dict[str, Any]) -> str:
    """Return the message of a failed pod; without one, the states of its containers."""
    return str(status.get("message") or [(one["name"], one.get("state")) for one in status.get("containerStatuses") or ()])


def _strike(lab: Lab, fault: str, kills: int) -> None:
    for _ in range(kills):
        time.sleep(3)
        FAULTS[fault](lab)
    time.sleep(3)
