"""An agent on a fake driver, a real kubelet socket and an API server that can fail."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.agent.fake_kubelet import Kubelet
from tests.agent.fake_nvml import FakeNvml
from topology.agent import nvml
from topology.agent.gather import gather
from topology.agent.loop import Agent
from topology.agent.nvml import read_driver
from topology.agent.pod_resources import PodResources
from topology.agent.publisher import ApiError, Publisher
from topology.agent.sysfs import Sysfs
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine
from topology.platforms import machine_of

GPU = "nvidia.com/gpu"


def machine() -> Machine:
    return machine_of("t4", "t4")


class Server:
    """An API server: objects by path, and what is wrong with it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/api/v1/nodes/n": {"metadata": {"uid": "node-uid"}}}
        self.writes: list[str] = []
        self.down = False
        self.node_refusal: ApiError | None = None
        self.write_refusal: ApiError | None = None

    def get(self, path: str) -> dict[str, Any]:
        self._check(self.node_refusal)
        if path not in self.objects:
            raise ApiError(404, f"{path} not found")
        return self.objects[path]

    def apply(self, path: str, manifest: dict[str, Any], field_manager: str) -> dict[str, Any]:
        self._check(self.write_refusal)
        assert field_manager == "fabricwise-agent"
        root = path.removesuffix("/status")
        if path.endswith("/status") and root not in self.objects:
            raise ApiError(404, f"{root} not found")
        part = "status" if path.endswith("/status") else "spec"
        self.objects[root] = self.objects.get(root, {}) | {
            "metadata": manifest["metadata"] | self.objects.get(root, {}).get("metadata", {})
        }
        self.objects[root][part] = manifest[part]
        self.writes.append(part)
        return self.objects[root]

    def _check(self, refusal: ApiError | None) -> None:
        if self.down:
            raise ApiError(0, "connection refused")
        if refusal is not None:
            raise refusal


PATH = "/apis/fabricwise.dev/v1alpha1/gputopologies/n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An agent with a fake driver, a real kubelet socket, and a server that can fail. `clock` is monotonic, `wall` is Unix time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kubelet: Kubelet, folder: Path) -> None:
        self.fake, self.server, self.clock, self.kubelet = FakeNvml(machine_of("t4")), Server(), Clock(), kubelet
        self.wall = Clock()
        monkeypatch.setattr(nvml, "pynvml", self.fake)
        publisher = Publisher(self.server, "n", 60.0, self.clock, random.Random(1))
        kernel = Sysfs(folder)
        client = PodResources(kubelet.socket)
        self.agent = Agent("n", lambda: gather(read_driver(), kernel), client, publisher, 5.0, 20.0, clock=self.wall, monotonic=self.clock)

    def after(self, seconds: float) -> TopologyRecord:
        self.clock.now += seconds
        self.wall.now += seconds
        return self.agent.round()

    @property
    def published(self) -> TopologyRecord:
        return decode({**self.server.objects[PATH], "metadata": {"name": "n"}})
