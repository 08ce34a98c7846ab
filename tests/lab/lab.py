"""The whole lab: control plane, node, extender, scheduler, and what a test does with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.checkout import ROOT
from tests.cluster.processes.control_plane import ControlPlane, Extender, wait_for
from tests.cluster.processes.kustomize_base import base_objects
from tests.lab.binaries import Binaries
from tests.lab.real_node import image
from tests.lab.real_node.node import NAME, RESOURCE, RealNode


def container(name: str, gpus: int, milliseconds: int | None = None, restart: str | None = None) -> dict[str, Any]:
    """A container of the lab's image. `milliseconds`: it ends after so long."""
    found: dict[str, Any] = {"name": name, "image": image.NAME, "imagePullPolicy": "Never"}
    if gpus:
        found["resources"] = {"limits": {RESOURCE: str(gpus)}}
    if milliseconds is not None:
        found["command"] = ["/pause", str(milliseconds)]
    if restart is not None:
        found["restartPolicy"] = restart
    return found


def pod(name: str, containers: Sequence[dict[str, Any]], init: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A pod for the lab's scheduler."""
    spec = {
        "schedulerName": "gpu-scheduler",
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "tolerations": [{"operator": "Exists"}],
        "containers": list(containers),
        "initContainers": list(init),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Lab:
    """Everything started and ready."""

    def __init__(
        self,
        folder: Path,
        binaries: Binaries,
        platform: str,
        policy: str = "none",
        steered: bool = True,
        used_bytes: dict[int, int] | None = None,
        stands_by: bool = True,
    ) -> None:
        """As `RealNode`; a second steerer stands by as in manifests/steering, unless told not to."""
        self.plane = ControlPlane(folder)
        try:
            for manifest in [*base_objects(), *base_objects(ROOT / "manifests/agent"), *base_objects(ROOT / "manifests/bind")]:
                self.plane.apply(manifest)
            wait_for("the CRD", lambda: self.plane.client.get("/apis/fabricwise.dev/v1alpha1/gputopologies").status_code == 200)
            self.node = RealNode(self.plane, binaries, platform, policy, steered, used_bytes, stands_by)
            wait_for("the agent's GpuTopology", self._is_published)
            self.extender = Extender(self.plane, config=self._settings(folder, policy))
            self.extender.wait_ready()
            self._start_scheduler()
            wait_for("the extender knows the node", lambda: self.view()["topology"].startswith("topology from GpuTopology"))
        except BaseException:
            self.close()
            raise

    def _is_published(self) -> bool:
        status = self.node.topology().get("status", {})
        return bool(status.get("steering", {}).get("resources")) if self.node.steered else bool(status)

    def _settings(self, folder: Path, policy: str) -> Path:
        path = folder / "extender.yaml"
        path.write_text(yaml.safe_dump({"nodes": {"topology_manager": policy}}))
        return path

    def _start_scheduler(self) -> None:
        configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text()) | {"leaderElection": {"leaderElect": False}}
        configuration["extenders"][0] |= {"urlPrefix": f"{self.extender.url}/scheduler", "bindVerb": "bind"}
        self.plane.start_scheduler("gpu-scheduler", configuration, "admin")

    def close(self) -> None:
        """End everything."""
        if hasattr(self, "extender"):
            self.extender.close()
        self.plane.close()

    def logs(self) -> str:
        """The ends of all logs, for a failure message."""
        return "\n".join(f"--- {path.stem}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(self.plane.folder.glob("*.log")))

    def view(self) -> dict[str, Any]:
        """What the extender knows of the node."""
        found: dict[str, Any] = self.extender.client.get(f"/v1/nodes/{NAME}").json()
        return found

    def create(self, manifest: dict[str, Any]) -> str:
        """Create a pod; its uid."""
        response = self.plane.client.post("/api/v1/namespaces/default/pods", json=manifest)
        assert response.status_code == 201, response.text
        uid: str = response.json()["metadata"]["uid"]
        return uid

    def get(self, name: str) -> dict[str, Any] | None:
        """A pod; None where there is none."""
        response = self.plane.client.get(f"/api/v1/namespaces/default/pods/{name}")
        found: dict[str, Any] | None = response.json() if response.status_code == 200 else None
        return found

    def delete(self, *names: str) -> None:
        """Delete pods, and wait until the API server has none of them."""
        for name in names:
            self.plane.client.delete(f"/api/v1/namespaces/default/pods/{name}")
        for name in names:
            wait_for(f"{name} is gone", lambda name=name: self.get(name) is None)  # type: ignore[misc]

    def wait_pod(self, name: str, done: Callable[[dict[str, Any]], bool], seconds: float = 40.0) -> dict[str, Any]:
        """The pod once `done` says so, or as it is after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            found = self.get(name)
            if found is None or done(found) or time.monotonic() > until:
                return found or {}
            time.sleep(0.03)

    def decision(self, uid: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The newest decision about a pod that found the node feasible, and its verdict on the node."""
        rows = self.extender.decisions(uid)
        return next(((row, verdict) for row in rows for verdict in row["nodes"] if verdict["node"] == NAME and verdict["feasible"]), None)
