"""`fabricwise why` on a real API server, with the real kube-scheduler and an extender: ten Pending pods of ten different causes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.fleets.fleet import Fleet, pod
from tests.cluster.fleets.rig import Rig
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.one_shot import run, run_with
from topology.platforms import machine_of

pytestmark = pytest.mark.cluster
SCHEDULER = "why-scheduler"
CLASSES = {
    "classes": [
        {"name": "why-batch", "description": "tolerant work"},
        {"name": "why-sensitive", "description": "needs telemetry", "telemetry": "required"},
    ]
}
NODES = {
    "floor": "dgx-1v",
    "memory": "hgx-h100",
    "taint": "hgx-h100",
    "cpu": "hgx-h100",
    "annotation": "hgx-h100",
    "class": "hgx-h100",
    "health": "hgx-h100",
    "telemetry": "hgx-h100",
    "assumed": "hgx-h100",
    "nothing": "hgx-h100",
}
"""Cause -> the platform of its own node, which its pod selects."""


@dataclass(frozen=True)
class Expected:
    """What the answer about a pod must say."""

    reason: str
    remedy: str
    """Words of the first remedy that `kind` names."""
    kind: str
    gpus: int = 2
    annotations: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    scheduler: str = SCHEDULER


CASES = {
    "floor": Expected(
        "free GPUs do not reach the bandwidth floor",
        "evict default/holder-why-floor",
        "evict",
        annotations={"fabricwise.dev/min-busbw": "40"},
    ),
    "memory": Expected(
        "GPU memory class too small",
        "lower min-gpu-memory from 140 GiB to 80Gi",
        "lower",
        annotations={"fabricwise.dev/min-gpu-memory": "140Gi"},
    ),
    "taint": Expected("node(s) had untolerated taint {team: research}", "tolerate team=research:NoSchedule", "tolerate"),
    "cpu": Expected("Insufficient cpu", "evict default/hog-why-cpu", "evict", requests={"cpu": "100"}),
    "annotation": Expected(
        "pod annotation fabricwise.dev/min-busbw is malformed",
        'write fabricwise.dev/min-busbw: "200"',
        "correct",
        annotations={"fabricwise.dev/min-busbw": "200GB/s"},
    ),
    "class": Expected(
        "pod names a workload class that is not defined",
        "use class why-batch",
        "correct",
        annotations={"fabricwise.dev/workload-class": "why-bacht"},
    ),
    "health": Expected("too few healthy GPUs", "reset or replace 1 unhealthy GPU of why-health (GPU 5: XID 79", "repair", gpus=8),
    "telemetry": Expected(
        "GPU telemetry is unknown and the pod's class requires it",
        "make dcgm-exporter answer on why-telemetry",
        "repair",
        annotations={"fabricwise.dev/workload-class": "why-sensitive"},
    ),
    "assumed": Expected("pods that were decided a moment ago are not visible on their nodes yet", "wait some seconds", "wait", gpus=8),
    "nothing": Expected("not tried yet", "check that a scheduler of the name night-scheduler runs", "look", scheduler="night-scheduler"),
}


def wanted(cause: str, case: Expected) -> dict[str, Any]:
    """Return the pod of a cause, which selects its own node."""
    manifest = pod(f"why-{cause}", case.gpus, case.scheduler, **case.annotations)
    manifest["spec"]["nodeSelector"] = {"kubernetes.io/hostname": f"why-{cause}"}
    if case.requests:
        manifest["spec"]["containers"][0]["resources"]["requests"] = case.requests
    return manifest


def message_of(plane: ControlPlane, name: str) -> str:
    """Return the message of the pod's condition PodScheduled; empty where there is none."""
    conditions = plane.pods()[name].get("status", {}).get("conditions") or []
    return next((str(each.get("message") or "") for each in conditions if each["type"] == "PodScheduled"), "")


@dataclass
class Waiting:
    """The ten pods, all Pending, and the extender that refused them."""

    plane: ControlPlane
    classes: Path
    url: str

    def why(self, *arguments: str, account: str = "admin") -> tuple[int, str, str]:
        """Run `fabricwise why`."""
        return run(self.plane, "why", *arguments, "--workload-classes", str(self.classes), account=account)


@pytest.fixture(scope="module")
def waiting(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """The cluster with ten Pending pods of ten causes, each of which kube-scheduler has tried, except for `nothing`."""
    classes = tmp_path_factory.mktemp("why") / "classes.yaml"
    classes.write_text(yaml.safe_dump(CLASSES))
    machines = {f"why-{cause}": machine_of(platform, f"why-{cause}") for cause, platform in NODES.items()}
    fleet = Fleet(plane, machines, held={"why-floor": (1, 2, 3, 4, 6, 7)})
    rig = Rig(plane, fleet, "why")
    fleet.create()
    try:
        _prepare(plane, fleet)
        wrapper = ("sh", "-c", f'exec "$@" --workload-classes {classes}', "sh")
        extender = rig.extender({"assumed_pods": {"ttl_seconds": 600}}, wrapper)
        ghost = pod("ghost", 8)
        ghost["metadata"]["uid"] = "uid-ghost"
        decided = extender.client.post("/scheduler/filter", json={"Pod": ghost, "NodeNames": ["why-assumed"]}).json()
        assert decided["NodeNames"] == ["why-assumed"]
        rig.scheduler(SCHEDULER, extender.url)
        for cause, case in CASES.items():
            plane.apply(wanted(cause, case))
        for cause in CASES:
            if cause != "nothing":
                wait_for(f"kube-scheduler has tried why-{cause}", partial(message_of, plane, f"why-{cause}"))
        yield Waiting(plane, classes, extender.url)
    finally:
        for process in rig.schedulers:
            process.stop()
        for extender in rig.extenders:
            extender.close()
        for prefix in ("why-", "holder-why", "hog-why", "many-"):
            rig.delete(prefix)
        fleet.remove()


def _prepare(plane: ControlPlane, fleet: Fleet) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    taint = {"spec": {"taints": [{"key": "team", "value": "research", "effect": "NoSchedule"}]}}
    assert plane.client.patch("/api/v1/nodes/why-taint", content=json.dumps(taint), headers=merge).status_code == 200
    hog = pod("hog-why-cpu", 0)
    hog["spec"] |= {"nodeName": "why-cpu"}
    hog["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "150"}}
    plane.apply(hog)
    fleet.status["why-health"] = replace(fleet.status["why-health"], unhealthy=((5, "XID 79: GPU has fallen off the bus"),))
    fleet.publish("why-health")


def test_each_of_ten_causes_is_named_with_its_remedy(waiting: Waiting, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for cause, case in CASES.items():
        status, out, err = waiting.why(f"why-{cause}", "-o", "json")
        assert status in (0, 1), err
        answer = json.loads(out)
        assert answer["state"] == "pending", cause
        assert answer["reason"] == case.reason, (cause, answer)
        remedies = [remedy["text"] for remedy in answer["remedies"] if remedy["kind"] == case.kind]
        assert any(text.startswith(case.remedy) for text in remedies), (cause, answer["remedies"])
        texts.append(waiting.why(f"default/why-{cause}")[1])
    with capsys.disabled():
        print("\n" + "\n".join(texts))


def test_running_extender_gives_the_same_causes(waiting: Waiting) -> None:
    for cause, case in CASES.items():
        status, out, err = run(waiting.plane, "why", f"default/why-{cause}", "--server", waiting.url, "-o", "json")
        assert status in (0, 1), err
        answer = json.loads(out)
        assert answer["reason"] == case.reason, (cause, answer)


def test_workload_is_answered_by_its_newest_pending_pod_and_the_number_of_alike_pods(waiting: Waiting) -> None:
    template = wanted("memory", CASES["memory"])
    labels = {"app": "many"}
    for number in range(3):
        name = f"many-{number}"
        waiting.plane.apply(template | {"metadata": template["metadata"] | {"name": name, "labels": labels}})
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "many", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"] | {"schedulerName": SCHEDULER}},
        },
    }
    waiting.plane.apply(deployment)
    try:
        status, out, err = waiting.why("deployment/many", "-o", "json")
        assert status == 1, err
        answer = json.loads(out)
        assert answer["pod"].startswith("default/many-")
        assert (answer["reason"], answer["alike"]) == (CASES["memory"].reason, 2)
    finally:
        waiting.plane.client.delete("/apis/apps/v1/namespaces/default/deployments/many")


def test_eviction_that_a_disruption_budget_forbids_is_left_out_and_said(waiting: Waiting) -> None:
    plane, label, pod_path = waiting.plane, {"why": "protected"}, "/api/v1/namespaces/default/pods/holder-why-floor"
    merge = {"Content-Type": "application/merge-patch+json"}
    labels, runs = json.dumps({"metadata": {"labels": label}}), json.dumps({"status": {"phase": "Running"}})
    assert plane.client.patch(pod_path, content=labels, headers=merge).status_code == 200
    assert plane.client.patch(f"{pod_path}/status", content=runs, headers=merge).status_code == 200, "no budget protects a pod before"
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "why-budget", "namespace": "default"}}
    plane.apply(budget | {"spec": {"maxUnavailable": 0, "selector": {"matchLabels": label}}})
    try:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "holder-why-floor", "namespace": "default"}}
        assert plane.client.post(f"{pod_path}/eviction", json=eviction, params={"dryRun": "All"}).status_code == 429
        for how in ((), ("--server", waiting.url)):
            classes = () if how else ("--workload-classes", str(waiting.classes))
            status, out, err = run(plane, "why", "default/why-floor", *how, *classes, "-o", "json")
            assert status in (0, 1), err
            answer = json.loads(out)
            assert not [remedy for remedy in answer["remedies"] if remedy["evict"]], how
            texts = [remedy["text"] for remedy in answer["remedies"]]
            refused = "the API server refuses that now: budget default/why-budget allows no disruption now"
            assert f"evicting default/holder-why-floor would make it fit, but {refused}" in texts, (how, texts)
    finally:
        plane.client.delete("/apis/policy/v1/namespaces/default/poddisruptionbudgets/why-budget")


def test_bound_pod_is_answered_with_the_gpus_that_its_agent_has_published(waiting: Waiting) -> None:
    status, out, err = waiting.why("default/holder-why-floor", "-o", "json")
    assert status == 0, err
    answer = json.loads(out)
    assert answer["state"] == "running"
    assert answer["placement"]["gpus"] == [1, 2, 3, 4, 6, 7]
    assert answer["placement"]["actual_gbps"] is not None


def test_account_that_may_only_read_pods_of_a_namespace_learns_what_it_may_not_read(waiting: Waiting) -> None:
    plane, api, where = waiting.plane, "rbac.authorization.k8s.io", {"name": "why-reader", "namespace": "default"}
    plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where})
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    plane.apply({"apiVersion": f"{api}/v1", "kind": "Role", "metadata": where, "rules": [rule]})
    subject = {"kind": "ServiceAccount", **where}
    binding = {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": where}
    plane.apply(binding | {"subjects": [subject], "roleRef": {"apiGroup": api, "kind": "Role", "name": "why-reader"}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = plane.client.post("/api/v1/namespaces/default/serviceaccounts/why-reader/token", json=request).json()["status"]["token"]
    config = yaml.safe_load(plane.kubeconfig("admin").read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = plane.folder / "why-reader.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    arguments = ("why", "default/why-memory", "-o", "json")
    wait_for("the role is in force", lambda: run_with(kubeconfig, *arguments)[0] != 3)
    status, out, err = run_with(kubeconfig, *arguments)
    assert status == 1, err
    answer = json.loads(out)
    assert answer["reason"] in ("GPU memory class too small", "node(s) didn't match Pod's node affinity/selector")
    assert answer["groups"], "kube-scheduler's report remains"
    unread = " ".join(answer["unread"])
    assert "can-i list nodes" in unread
    assert "can-i list events -n default" in unread
