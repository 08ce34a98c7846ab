"""A separate fleet, extenders and kube-schedulers, for tests that need all of them and clean up afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import yaml

from extender.sources.simulated import cluster_machines
from tests.checkout import ROOT
from tests.cluster.fleets.fleet import Fleet, Kubelets, pod, scheduled
from tests.cluster.processes.control_plane import ControlPlane, Extender, Process, wait_for


@dataclass
class Rig:
    """The parts that a test uses."""

    plane: ControlPlane
    fleet: Fleet
    name: str
    extenders: list[Extender] = field(default_factory=list)
    schedulers: list[Process] = field(default_factory=list)

    def extender(self, settings: dict[str, Any] | None = None, wrapper: Sequence[str] = ()) -> Extender:
        """One more replica, ready, with settings beside the defaults."""
        config = self.plane.folder / f"{self.name}-extender-{len(self.extenders)}.yaml"
        config.write_text(yaml.safe_dump({"telemetry": {"source": "off"}, **(settings or {})}))
        extender = Extender(self.plane, f"{self.name}-extender-{len(self.extenders)}", config, wrapper)
        self.extenders.append(extender)
        extender.wait_ready()
        wait_for("all nodes seen", lambda: self.sees_all(extender))
        return extender

    def sees_all(self, extender: Extender) -> bool:
        """Whether the extender knows every node of the fleet as it is."""
        rows = {row["node"]: row for row in extender.client.get("/v1/nodes").json()["nodes"]}
        return all(name in rows and rows[name]["topology"] == "topology from GpuTopology" for name in self.fleet.machines)

    def scheduler(self, name: str, url: str | None, account: str = "admin", **extender: Any) -> Process:
        """A kube-scheduler for pods of that schedulerName, with the extender at that URL; without a URL, no extender."""
        configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
        configuration |= {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": name}]}
        if url is None:
            del configuration["extenders"]
        else:
            configuration["extenders"][0] |= {"urlPrefix": f"{url}/scheduler", "httpTimeout": "5s", **extender}
        process = self.plane.start_scheduler(name, configuration, account)
        self.schedulers.append(process)
        return process

    def pod(self, name: str, gpus: int, scheduler: str, priority: int | None = None, **annotations: str | None) -> dict[str, Any]:
        """A pod for this fleet alone."""
        told = {f"fabricwise.dev/{key.replace('_', '-')}": value for key, value in annotations.items() if value}
        manifest = pod(name, gpus, scheduler, **told)
        manifest["spec"]["nodeSelector"] = {"fleet": self.name}
        manifest["spec"]["terminationGracePeriodSeconds"] = 0
        if priority is not None:
            manifest["spec"]["priorityClassName"] = f"{self.name}-{priority}"
        return manifest

    def create(self, manifest: dict[str, Any]) -> None:
        """POST a pod: quicker than applying it."""
        response = self.plane.client.post("/api/v1/namespaces/default/pods", json=manifest)
        assert response.status_code == 201, response.text

    def wait_bound(self, prefix: str, count: int, seconds: float = 120.0) -> float:
        """Wait until this many pods are bound. Returns the seconds that it took."""
        started = time.monotonic()
        wait_for(f"{count} pods {prefix}* bound", lambda: len(scheduled(self.plane, prefix)) >= count, seconds)
        return time.monotonic() - started

    def wait_given(self, kubelets: Kubelets, count: int) -> None:
        """Wait until the kubelets have served this many pods and the extender knows it."""
        wait_for(f"{count} pods served", lambda: len(kubelets.devices) >= count)

    def delete(self, prefix: str) -> None:
        """Delete pods and wait until they are gone, here and for the extenders."""
        for name in [name for name in self.plane.pods() if name.startswith(prefix)]:
            self.plane.client.request("DELETE", f"/api/v1/namespaces/default/pods/{name}", params={"gracePeriodSeconds": "0"})
        wait_for("pods gone", lambda: not any(name.startswith(prefix) for name in self.plane.pods()))


@contextmanager
def rigged(plane: ControlPlane, name: str, counts: dict[str, int]) -> Iterator[Rig]:
    """A fleet with a label of its own, taken down at the end with all that was started on it."""
    machines = {f"{name}-{node}": machine for node, machine in cluster_machines(counts).items()}
    fleet = Fleet(plane, machines, labels={"fleet": name})
    fleet.create()
    rig = Rig(plane, fleet, name)
    try:
        yield rig
    finally:
        for process in rig.schedulers:
            process.stop()
        for extender in rig.extenders:
            extender.close()
        plane.wait_ready()
        try:
            rig.delete(name)
        finally:
            fleet.remove()


def url_of(client: httpx.Client) -> str:
    """Return the base URL of a client."""
    return str(client.base_url).rstrip("/")
