"""A real node: containerd, kubelet, NVIDIA's plugin on the mock of NVML, agent and steerer, in mount and pid namespaces of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from extender.kube.small_connection import SERVICE_ACCOUNT
from tests.checkout import ROOT
from tests.cluster.processes.control_plane import ControlPlane, Process, free_port, wait_for
from tests.lab.binaries import Binaries
from tests.lab.real_node import cgroups, image, mock_nvml
from topology.platforms import machine_of

NAME = "gpu-node"
RESOURCE = "nvidia.com/gpu"
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
CHECKPOINT = DEVICE_PLUGINS / "kubelet_internal_checkpoint"
SHARED = Path("/run/fabricwise")

Held = dict[str, dict[str, frozenset[int]]]
"""Pod uid -> container -> indices of its GPUs."""


def mount_fresh(path: str) -> None:
    """An empty file system at a path, in this mount namespace alone."""
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "fabricwise-lab", path], check=True)


class RealNode:
    """One node, registered with a control plane. It ends with the control plane's processes."""

    def __init__(
        self,
        plane: ControlPlane,
        binaries: Binaries,
        platform: str,
        policy: str = "none",
        steered: bool = True,
        used_bytes: dict[int, int] | None = None,
        stands_by: bool = False,
    ) -> None:
        """`policy`: the kubelet's topologyManagerPolicy. `used_bytes`: memory that an unknown process holds, by GPU. `stands_by`: whether a
        second steerer does."""
        self.plane, self.binaries, self.folder, self.policy, self.steered = plane, binaries, plane.folder, policy, steered
        self.machine = machine_of(platform, NAME)
        self._mount()
        self._mock = self.folder / "mock.yaml"
        self.occupy(used_bytes or {})
        (self.folder / "levels.txt").write_text(mock_nvml.pcie_levels(self.machine))
        self._nvml = {
            "LD_LIBRARY_PATH": str(binaries.mock_nvml),
            "MOCK_NVML_CONFIG": str(self._mock),
            "MOCK_NVML_PCIE_LEVELS": str(self.folder / "levels.txt"),
        }
        self._index = {mock_nvml.uuid(index): index for index in range(len(self.machine.gpus))}
        self.steerer_port = free_port()
        self._give_service_account()
        self._containerd()
        self.kubelet = self._kubelet()
        self.steerer = self._steerer("steerer") if steered else None
        self.second_steerer = self._steerer("second-steerer", "--stand-by") if steered and stands_by else None
        self.plugin = self._plugin()
        self.agent = self._agent()
        self.wait_allocatable()

    def occupy(self, used_bytes: dict[int, int]) -> None:
        """What the mock says from the next start of a program on: memory in use by GPU."""
        template = self.binaries.mock_nvml / "configs/mock-nvml-config-h100.yaml"
        self._mock.write_text(yaml.safe_dump(mock_nvml.configuration(self.machine, template, used_bytes), sort_keys=False))

    def _mount(self) -> None:
        for path in (
            "/var/lib/kubelet",
            "/run/containerd",
            "/run/fabricwise",
            "/var/log/pods",
            "/var/log/containers",
            "/sys/bus/pci/devices",
            str(SERVICE_ACCOUNT),
        ):
            mount_fresh(path)
        for index, gpu in enumerate(self.machine.gpus):
            device = Path("/sys/bus/pci/devices") / mock_nvml.bus_id(index)
            device.mkdir()
            (device / "numa_node").write_text(f"{gpu.numa_node or 0}\n")
        if self.policy != "none":
            self._split_into_numa_nodes()

    def _split_into_numa_nodes(self) -> None:
        """Two NUMA nodes for the kubelet, which reads them of the kernel: half of the CPUs and of the memory each."""
        mount_fresh("/sys/devices/system/node")
        root, cpus = Path("/sys/devices/system/node"), sorted(os.sched_getaffinity(0))
        memory_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2048
        (root / "online").write_text("0-1\n")
        for number in (0, 1):
            node, mine = root / f"node{number}", cpus[number::2]
            node.mkdir()
            (node / "meminfo").write_text(f"Node {number} MemTotal:       {memory_kib} kB\n")
            (node / "distance").write_text("10 21\n" if number == 0 else "21 10\n")
            (node / "cpulist").write_text(",".join(map(str, mine)) + "\n")
            pages = node / "hugepages/hugepages-2048kB"
            pages.mkdir(parents=True)
            (pages / "nr_hugepages").write_text("0\n")
            for cpu in mine:
                (node / f"cpu{cpu}").symlink_to(f"/sys/devices/system/cpu/cpu{cpu}")

    def _run(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> Process:
        return self.plane.run(name, ["env", *(f"{key}={value}" for key, value in (environment or {}).items()), *command])

    def _give_service_account(self) -> None:
        """What the kubelet mounts into the steerer's pod: a token with the rights of manifests/steering, the server's certificate."""
        for manifest in yaml.safe_load_all((ROOT / "manifests/steering/rbac.yaml").read_text()):
            self.plane.apply(manifest)
        path = "/api/v1/namespaces/fabricwise-agent/serviceaccounts/fabricwise-steerer/token"
        answer = self.plane.client.post(path, json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        assert answer.status_code == 201, answer.text
        (SERVICE_ACCOUNT / "token").write_text(answer.json()["status"]["token"])
        (SERVICE_ACCOUNT / "ca.crt").write_bytes((self.plane.folder / "certs/apiserver.crt").read_bytes())

    def _containerd(self) -> None:
        folder = self.folder / "containerd"
        (folder / "cni").mkdir(parents=True, exist_ok=True)
        (folder / "cni/10-none.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}))
        plugin = folder / "cni/none"
        plugin.write_text('#!/bin/sh\necho \'{"cniVersion":"0.4.0"}\'\n')
        plugin.chmod(0o755)
        self._socket = "/run/containerd/fabricwise-lab.sock"
        (folder / "config.toml").write_text(f"""version = 2
root = "{folder}/root"
state = "/run/containerd/state"
[grpc]
  address = "{self._socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image.NAME}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{self.binaries.runc}"
        SystemdCgroup = false
""")
        self._run("containerd", [str(self.binaries.containerd), "--config", str(folder / "config.toml")])
        client = [str(self.binaries.ctr), "-a", self._socket]
        wait_for("containerd", lambda: subprocess.run([*client, "version"], capture_output=True, check=False).returncode == 0, 30)
        archive = image.make(self.binaries.compiler, folder)
        imported = [*client, "-n", "k8s.io", "image", "import", "--snapshotter", "native", str(archive)]
        subprocess.run(imported, check=True, capture_output=True)

    def _kubelet(self) -> Process:
        config: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": free_port(),
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": free_port(),
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroups.make()}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "evictionHard": {"memory.available": "10Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "makeIPTablesUtilChains": False,
            "maxPods": 110,
            "registryPullQPS": 0,
            "logging": {"verbosity": 4},
            "topologyManagerPolicy": self.policy,
        }
        path = self.folder / "kubelet.yaml"
        path.write_text(yaml.safe_dump(config))
        kubeconfig = self.plane.kubeconfig("admin")
        command = [str(self.binaries.kubelet), f"--config={path}", f"--kubeconfig={kubeconfig}", f"--hostname-override={NAME}"]
        kubelet = self._run("kubelet", command)
        wait_for("the kubelet's Node", lambda: self.plane.client.get(f"/api/v1/nodes/{NAME}").status_code == 200)
        wait_for("the kubelet's registration socket", (DEVICE_PLUGINS / "kubelet.sock").exists)
        return kubelet

    def _steerer(self, name: str, *more: str) -> Process:
        command = [sys.executable, "-m", "extender", "steer", "--node-name", NAME, "--host", "127.0.0.1", "--port", str(self.steerer_port)]
        in_cluster = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.plane.port)}
        steerer = self._run(name, [*command, *more], in_cluster)
        wait_for("the steerer's link", (DEVICE_PLUGINS / "fabricwise.sock").exists)
        return steerer

    def _plugin(self) -> Process:
        flags = ["--device-discovery-strategy=nvml", "--fail-on-init-error=true", "--pass-device-specs=false"]
        environment = self._nvml | ({"KUBELET_SOCKET": str(DEVICE_PLUGINS / "fabricwise.sock")} if self.steered else {})
        return self._run("plugin", [str(self.binaries.device_plugin), *flags], environment)

    def _agent(self) -> Process:
        command = [sys.executable, "-m", "extender", "agent", "--node-name", NAME, "--kubeconfig", str(self.plane.kubeconfig("admin"))]
        return self._run("agent", [*command, "--host", "127.0.0.1", "--port", str(free_port()), "--interval", "1"], self._nvml)

    def allocatable(self) -> int:
        """GPUs that the Node offers."""
        return int(self.plane.client.get(f"/api/v1/nodes/{NAME}").json()["status"]["allocatable"].get(RESOURCE, 0))

    def wait_allocatable(self, seconds: float = 60.0) -> None:
        """Until the Node offers all GPUs."""
        wait_for("all GPUs on offer", lambda: self.allocatable() == len(self.machine.gpus), seconds)

    def topology(self) -> dict[str, Any]:
        """The agent's GpuTopology."""
        found: dict[str, Any] = self.plane.client.get(f"/apis/fabricwise.dev/v1alpha1/gputopologies/{NAME}").json()
        return found

    def held(self) -> Held:
        """What the kubelet's checkpoint says. Pods that have ended stay in it until the next admission."""
        try:
            entries = json.loads(CHECKPOINT.read_text())["Data"]["PodDeviceEntries"] or []
        except (OSError, ValueError):
            return {}
        found: Held = {}
        for entry in entries:
            indices = frozenset(self._index[device] for devices in (entry["DeviceIDs"] or {}).values() for device in devices)
            containers = found.setdefault(entry["PodUID"], {})
            containers[entry["ContainerName"]] = containers.get(entry["ContainerName"], frozenset()) | indices
        return found

    def metrics(self) -> str:
        """The steerer's metrics."""
        return httpx.get(f"http://127.0.0.1:{self.steerer_port}/metrics", timeout=5).text
