"""Node reports of a deliberately broken cluster: every planted fault is found, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.report.checks.node_checks import CHECKS, all_reports, node_report
from extender.decision.state.changes import Change, ClassesSeen, ClockTicked, TelemetrySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.sources.class_file import load_classes
from extender.sources.simulated import SimulatedCluster
from extender.telemetry.conditions import TUNING
from tests.checkout import ROOT
from tests.cli.test_cli import run
from tests.conftest import Served
from tests.decision.verdicts.test_telemetry_decisions import looked, machine, reading
from tests.objects import GPU, node, pod, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.machine.hardware import PciePath, with_gpus
from topology.platforms import machine_of

COMPONENTS = {
    "nvidia-driver-daemonset": "driver",
    "nvidia-container-toolkit-daemonset": "toolkit",
    "nvidia-device-plugin-daemonset": "device-plugin",
    "gpu-feature-discovery": "gfd",
    "nvidia-dcgm-exporter": "dcgm-exporter",
    "nvidia-operator-validator": "validator",
}
NOW, STEADY = 1_800_000_000.0, 1000.0


class Rack:
    """A node without faults and its objects; tests plant faults into it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.node = node(
            name,
            8,
            "NVIDIA-H100-80GB-HBM3",
            81559,
            {
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.count": "8",
                "nvidia.com/gpu.deploy.driver": "true",
                "nvidia.com/cuda.driver-version.full": "570.86.16",
                "nvidia.com/cuda.runtime-version.full": "12.8",
                "nvidia.com/gpu.sharing-strategy": "none",
                "nvidia.com/mig.capable": "true",
                "nvidia.com/mig.strategy": "mixed",
            },
        )
        self.node["spec"] = {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}
        self.node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        self.pods = [self._component(app) for app in COMPONENTS]
        self.machine = machine("hgx-h100", name)
        self.status = DeviceStatus(free=tuple(range(8)), observed_at_seconds=NOW - 30)
        self.looks: list[TelemetrySeen] = [looked(name, STEADY - 10)]

    def _component(self, app: str) -> dict[str, Any]:
        made = pod(name=f"{app}-{self.name}", node=self.name)
        made["metadata"]["labels"] = {"app": app}
        made["metadata"]["ownerReferences"] = [{"kind": "DaemonSet"}]
        made["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        return made

    def pod_of(self, component: str) -> dict[str, Any]:
        return next(one for one in self.pods if COMPONENTS[one["metadata"]["labels"]["app"]] == component)

    def manifests(self) -> list[dict[str, Any]]:
        return [self.node, *self.pods, encode(TopologyRecord(self.name, self.machine, self.status))]


def set_label(key: str, value: str) -> Callable[[Rack], None]:
    return lambda rack: rack.node["metadata"]["labels"].update({f"nvidia.com/{key}": value})


def offer(count: int) -> Callable[[Rack], None]:
    return lambda rack: rack.node["status"]["allocatable"].update({GPU: str(count)})


def not_ready(rack: Rack) -> None:
    rack.node["status"]["conditions"][0]["status"] = "Unknown"


def crashed_plugin(rack: Rack) -> None:
    rack.pod_of("device-plugin")["status"]["conditions"][0]["status"] = "False"


def no_toolkit(rack: Rack) -> None:
    rack.pods.remove(rack.pod_of("toolkit"))


def crashed_validator(rack: Rack) -> None:
    rack.pod_of("validator")["status"] = {"phase": "Pending"}


def no_taint(rack: Rack) -> None:
    rack.node["spec"] = {}


def guest(rack: Rack) -> None:
    rack.pods.append(pod(name="web", node=rack.name) | {"status": {"phase": "Running"}})


def dead_link(rack: Rack) -> None:
    first = replace(rack.machine.gpus[0], switch_links=16, dead_links=2)
    rack.machine = replace(rack.machine, gpus=(first, *rack.machine.gpus[1:]))


def older_links(rack: Rack) -> None:
    rack.machine = with_gpus(rack.machine, nvlink_generation=3)


def fewer_links(rack: Rack) -> None:
    rack.machine = with_gpus(rack.machine, switch_links=16)


def words_of_a_hypervisor(rack: Rack) -> None:
    words = tuple(tuple(None if i == j else PciePath.SYS for j in range(8)) for i in range(8))
    rack.machine = replace(rack.machine, pcie_paths=words)


def xid(rack: Rack) -> None:
    rack.looks = [looked(rack.name, STEADY - 10, g4=reading(rack.name, 4, xid=79))]


def silent_exporter(rack: Rack) -> None:
    rack.looks = [looked(rack.name, STEADY - 500)]


def quiet_agent(rack: Rack) -> None:
    rack.status = replace(rack.status, observed_at_seconds=NOW - 3600)


# name -> (what is done to the rack, check that finds it, how, words)
FAULTS: dict[str, tuple[Callable[[Rack], None], str, str, str]] = {
    "kubelet-gone": (not_ready, "ready", "fail", "condition Ready is Unknown"),
    "plugin-crashed": (crashed_plugin, "components", "fail", "nvidia-device-plugin-daemonset-plugin-crashed"),
    "toolkit-missing": (no_toolkit, "components", "fail", "run on other nodes, not here: toolkit"),
    "validator-pending": (crashed_validator, "validated", "fail", "is not ready"),
    "gpus-lost": (offer(6), "advertised", "fail", "6 nvidia.com/gpu on offer, 8 GPUs by the agent"),
    "label-old": (set_label("gpu.product", "NVIDIA-A100-SXM4-80GB"), "labelled", "fail", "label says NVIDIA-A100-SXM4-80GB"),
    "driver-behind": (set_label("cuda.driver-version.full", "535.129.03"), "driver", "warn", "run 570.86"),
    "untainted": (no_taint, "isolated", "warn", "no GPU taint"),
    "guest": (guest, "isolated", "warn", "1 pods without GPUs run here: team/web"),
    "mig-failed": (set_label("mig.config.state", "failed"), "sharing", "fail", "nvidia.com/mig.config.state is failed"),
    "link-dead": (dead_link, "topology", "fail", "NVLinks down: GPU 0: 16 of 18 up, a hgx-h100 has them"),
    "link-generation": (older_links, "topology", "warn", "GPU 0: NVLink generation 3 by the driver"),
    "links-short": (fewer_links, "topology", "fail", "GPU 0, 1, 2, 3, 4, 5, 6, 7: 16 of 18 up"),
    "classes-doubtful": (words_of_a_hypervisor, "topology", "warn", "SYS, the link between NUMA nodes, joins GPU 0 and GPU 1"),
    "agent-quiet": (quiet_agent, "topology", "warn", "the agent has not renewed its status"),
    "exporter-silent": (silent_exporter, "measured", "fail", "stale"),
    "xid-79": (xid, "healthy", "fail", "GPU 4: XID 79"),
}
FOLLOWS = {("validator-pending", "components"), ("label-old", "topology")}
"""Further checks that a fault fails: a validator that is not ready is also a component that is not ready, and so on."""


def racks() -> list[Rack]:
    found = [Rack(f"good-{number}") for number in range(3)]
    for name, (plant, _, _, _) in FAULTS.items():
        rack = Rack(name)
        plant(rack)
        found.append(rack)
    return found


def state_of(found: list[Rack]) -> Snapshot:
    state = snapshot(*(manifest for rack in found for manifest in rack.manifests()))
    changes: list[Change] = [ClassesSeen(load_classes(ROOT / "config/workload-classes.yaml"))]
    changes += [look for rack in found for look in rack.looks]
    return fold_all(state, [*changes, ClockTicked(NOW, STEADY)], GPU, NODE_DEFAULTS)


@pytest.fixture(scope="module")
def cards() -> dict[str, dict[str, Any]]:
    return {card["node"]: card for card in all_reports(state_of(racks()), GPU, TUNING)}


def test_node_without_faults_passes_every_check(cards: dict[str, dict[str, Any]]) -> None:
    for number in range(3):
        card = cards[f"good-{number}"]
        assert {one["check"]: one["status"] for one in card["checks"]} == {check.__name__: "pass" for check in CHECKS}
        assert card["status"] == "pass"


@pytest.mark.parametrize("name", FAULTS)
def test_every_planted_fault_is_found(cards: dict[str, dict[str, Any]], name: str) -> None:
    _, check, status, words = FAULTS[name]
    found = next(one for one in cards[name]["checks"] if one["check"] == check)
    assert found["status"] == status
    assert words in found["evidence"]
    assert found["remedy"], "and says what to do"


def test_no_fault_fails_a_check_that_is_not_about_it(cards: dict[str, dict[str, Any]]) -> None:
    planted = {(name, fault[1]) for name, fault in FAULTS.items()}
    found = {(name, one["check"]) for name, card in cards.items() for one in card["checks"] if one["status"] != "pass"}
    assert found - FOLLOWS == planted


def test_pod_with_a_mig_slice_is_not_a_pod_without_gpus() -> None:
    rack = Rack("n")
    slice_pod = pod(name="sliced", node="n", spec={"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/mig-1g.5gb": "1"}}}]})
    slice_pod["spec"]["nodeName"] = "n"
    rack.pods.append(slice_pod | {"status": {"phase": "Running"}})
    card = all_reports(state_of([rack]), GPU, TUNING)[0]
    assert next(one["status"] for one in card["checks"] if one["check"] == "isolated") == "pass"


def test_the_baseline_answers_eight_questions(cards: dict[str, dict[str, Any]]) -> None:
    answers = cards["good-0"]["baseline"]
    assert len(answers) == 8
    assert answers["who owns the driver"].startswith("the GPU Operator (team/nvidia-driver-daemonset-good-0); driver 570.86.16")
    assert "large-model-production-inference" in answers["which workloads are allowed"]


def test_node_without_agent_labels_and_telemetry_has_unknown_checks() -> None:
    card = node_report("n", snapshot(node("n", 8)), GPU, TUNING)
    assert card is not None
    said = {one["check"]: one["status"] for one in card["checks"]}
    assert {name for name, status in said.items() if status == "pass"} == set()
    assert {name for name, status in said.items() if status == "fail"} == {"labelled"}


def test_report_of_a_real_mig_node(shared_data: Path) -> None:
    from extender.loading import load_documents

    manifest = load_documents((shared_data / "nodes/node-a100-mig-mixed-3-instances.yaml").read_text(), "node")[0]
    card = node_report(manifest["metadata"]["name"], snapshot(manifest), GPU, TUNING)
    assert card is not None
    found = {one["check"]: (one["status"], one["evidence"]) for one in card["checks"]}
    assert found["advertised"] == ("pass", "MIG devices: 2 nvidia.com/mig-1g.5gb, 1 nvidia.com/mig-2g.10gb")
    assert found["driver"] == ("pass", "driver 520.56.06, CUDA 11.8")
    assert card["baseline"]["who owns the driver"].startswith("the host's image")


def test_doctor_on_a_dump_exits_by_what_it_finds(tmp_path: Path) -> None:
    def dump(found: list[Rack]) -> str:
        path = tmp_path / "dump.yaml"
        path.write_text(yaml.safe_dump({"kind": "List", "items": [manifest for rack in found for manifest in rack.manifests()]}))
        return str(path)

    good = dump([Rack("good-0")])
    assert json.loads(run("doctor", "--cluster", good, "-o", "json"))["nodes"][0]["node"] == "good-0"
    assert "8 x NVIDIA-H100-80GB-HBM3" in run("node", "good-0", "--cluster", good)
    bad = Rack("bad")
    crashed_plugin(bad)
    run("doctor", "--cluster", dump([bad]), status=1)
    assert "no node 'nowhere' is known" in run("node", "nowhere", "--cluster", good, status=3)


def test_reports_over_http_are_the_same(served: Served) -> None:
    names = [card["node"] for card in served.client.get("/v1/reports").json()["nodes"]]
    assert "hgx-h100-0" in names
    card = served.client.get("/v1/nodes/hgx-h100-0/report").json()
    assert [one["check"] for one in card["checks"]] == [check.__name__ for check in CHECKS]
    assert served.client.get("/v1/nodes/nowhere/report").status_code == 404
    server = str(served.client.base_url)
    answer = json.loads(run("node", "hgx-h100-0", "--server", server, "-o", "json"))
    assert answer == {**card, "cluster": f"an unnamed cluster, by the extender at {server}"}
    assert "hgx-h100-0" in run("doctor", "--server", server)
    assert "no node 'nowhere' is known" in run("node", "nowhere", "--server", server, status=3)


def test_gpu_whose_memory_an_unknown_process_uses_is_not_counted_as_free_for_a_pod() -> None:
    cluster = SimulatedCluster({"a": machine_of("hgx-h100", "a")}, GPU)
    cluster.stray("a", 6, 21 << 30)
    state = fold_all(Snapshot(), (*cluster.listing(), *cluster.telemetry(STEADY), ClockTicked(NOW, STEADY)), GPU, NODE_DEFAULTS)
    for share, start in ((0.85, "7 GPUs of 8 free; GPU 6: 21.0 GiB"), (0.5, "8 GPUs of 8 free")):
        card = node_report("a", state, GPU, TUNING, usable_memory_share=share)
        assert card is not None
        assert card["readiness"]["can a GPU pod start now"].startswith(start)
