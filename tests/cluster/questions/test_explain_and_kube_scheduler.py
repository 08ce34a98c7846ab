"""The filters that `explain` repeats, compared with those of a real kube-scheduler: feasible nodes, and the reasons against others."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from extender.cli.reading import kube_objects
from extender.decision.kube_filters.evaluate import KubeAnswer, evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.listing import list_once
from extender.sources.collected_objects import CollectedObjects
from tests.cluster.fleets.random_clusters import Generator
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.one_shot import run
from tests.cluster.processes.recording_extender import REFUSAL, Recorder, recording_extender

pytestmark = pytest.mark.cluster
SCHEDULER = "recorded"
OWN = "kube-node-lease"
"""A namespace without random pods, which the rules of random bound pods do not select."""
ROUNDS, NODES, BOUND, PENDING = 6, 12, 16, 50
"""Number of random clusters, and of random pods per cluster."""


@pytest.fixture(scope="module")
def recorder(plane: ControlPlane) -> Iterator[Recorder]:
    with recording_extender() as recorder:
        configuration = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "percentageOfNodesToScore": 100,
            "clientConnection": {"qps": 5000, "burst": 5000},
            "profiles": [{"schedulerName": SCHEDULER}],
            "extenders": [{"urlPrefix": recorder.url, "filterVerb": "filter", "nodeCacheCapable": True, "httpTimeout": "10s", "weight": 1}],
        }
        process = plane.start_scheduler(SCHEDULER, configuration, "admin")
        yield recorder
        process.stop()


def create(plane: ControlPlane, manifest: dict[str, Any]) -> dict[str, Any]:
    """POST an object; a node's amounts go into its status."""
    if manifest["kind"] == "Node":
        response = plane.client.post("/api/v1/nodes", json=manifest)
    else:
        response = plane.client.post(f"/api/v1/namespaces/{manifest['metadata']['namespace']}/pods", json=manifest)
    assert response.status_code == 201, f"{response.text}\n{json.dumps(manifest)}"
    return manifest


def create_drawn(plane: ControlPlane, draw: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """POST a random pod; one that the API server finds invalid is drawn again."""
    for _ in range(10):
        manifest = draw()
        response = plane.client.post(f"/api/v1/namespaces/{manifest['metadata']['namespace']}/pods", json=manifest)
        if response.status_code == 201:
            return manifest
        assert response.status_code == 422, response.text
    raise AssertionError(f"ten drawn pods are invalid, the last one so: {response.text}")


def clear(plane: ControlPlane, prefix: str) -> None:
    """Pods and nodes of a round are deleted."""
    for pod in plane.client.get("/api/v1/pods").json()["items"]:
        meta = pod["metadata"]
        if meta["name"].startswith(prefix):
            plane.client.request(
                "DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", params={"gracePeriodSeconds": "0"}
            )
    for number in range(NODES):
        plane.client.delete(f"/api/v1/nodes/{prefix}-n{number}")


def wait_seen(plane: ControlPlane, recorder: Recorder, prefix: str) -> None:
    """Until the scheduler knows the last node, and the last bound pod, which keeps the sentinels from its node."""
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"last": prefix}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    number = 0

    def seen() -> bool:
        nonlocal number
        name, number = f"{prefix}-sentinel-{number}", number + 1
        spec = {
            "schedulerName": SCHEDULER,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "none"}],
            "affinity": affinity,
        }
        create(plane, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": OWN}, "spec": spec})
        wait_for("the sentinel asked about", lambda: name in recorder.asked)
        passed = recorder.asked[name]
        return f"{prefix}-n{NODES - 1}" in passed and f"{prefix}-n0" not in passed

    wait_for("the scheduler's state up to date", seen)


def truth(plane: ControlPlane, recorder: Recorder, manifest: dict[str, Any]) -> tuple[frozenset[str], Counter[str]]:
    """The nodes that pass kube-scheduler's own filters, and its reasons against the others, counted over nodes."""
    meta = manifest["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"

    def refused() -> str | None:
        conditions = plane.client.get(path).json()["status"].get("conditions") or []
        return next((one["message"] for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"), None)

    message: str = wait_for(f"{meta['name']} tried", refused)
    reasons = Counter[str]()
    listed = message.partition(" nodes are available: ")[2].partition(". ")[0].rstrip(".")
    for part in re.split(r", (?=\d+ )", listed):
        count, _, reason = part.partition(" ")
        if reason != REFUSAL:
            reasons[reason] += int(count)
    return recorder.asked.get(meta["name"], frozenset()), reasons


def names_nodes(manifest: dict[str, Any]) -> bool:
    """Whether the pod names nodes by `matchFields`: kube-scheduler then looks at no other node, and says of them only that."""
    return "matchFields" in json.dumps(manifest)


def first_reasons(answer: KubeAnswer) -> Counter[str]:
    """Our reasons as kube-scheduler counts them: those of the first filter that refuses a node. 1.36 does not name the taint."""
    reasons = Counter[str]()
    for refusals in answer.refusals.values():
        for refusal in refusals:
            if refusal.plugin == refusals[0].plugin:
                tainted = refusal.plugin == "TaintToleration"
                reasons["node(s) had untolerated taint(s)" if tainted else refusal.reason] += 1
    return reasons


def populate(plane: ControlPlane, generator: Generator) -> None:
    """The nodes of a round and the pods bound to them; the first and the last node are open to every sentinel."""
    prefix = generator.prefix
    for place in range(NODES):
        node = generator.node(place)
        if place in (0, NODES - 1):
            node["spec"], node["status"]["allocatable"] = {}, node["status"]["allocatable"] | {"pods": "110"}
        create(plane, node)
    for place in range(BOUND):
        create_drawn(plane, partial(generator.pod, f"{prefix}-bound{place}", SCHEDULER, f"{prefix}-n{generator.random.randrange(NODES)}"))
    last = {"name": f"{prefix}-last", "namespace": OWN, "labels": {"last": prefix}}
    spec = {"nodeName": f"{prefix}-n0", "containers": [{"name": "c", "image": "none"}]}
    create(plane, {"apiVersion": "v1", "kind": "Pod", "metadata": last, "spec": spec})


def surroundings(plane: ControlPlane) -> Surroundings:
    """The cluster as `explain --cluster kube` reads it."""
    collected = CollectedObjects()
    listing = list_once(kube_objects(str(plane.kubeconfig("admin")))[0], collect=collected)
    nodes = fold_all(Snapshot(), listing.listed, "nvidia.com/gpu").nodes
    return Surroundings(nodes, {name: tuple(pods) for name, pods in collected.pods.items()})


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_explain_and_kube_scheduler_agree_on_feasible_nodes_and_reasons(plane: ControlPlane, recorder: Recorder) -> None:
    fits = Counter[bool]()
    for number in range(ROUNDS):
        generator = Generator(number, f"round{number}")
        populate(plane, generator)
        wait_seen(plane, recorder, generator.prefix)
        around = surroundings(plane)
        pending = [create_drawn(plane, partial(generator.pod, f"round{number}-p{place}", SCHEDULER)) for place in range(PENDING)]
        with ThreadPoolExecutor(4) as threads:
            truths = list(threads.map(partial(truth, plane, recorder), pending))
        for manifest, (passed, reasons) in zip(pending, truths, strict=True):
            answer = evaluate(msgspec.convert(manifest, KubePod), around)
            ours = frozenset(around.nodes) - answer.refusals.keys()
            wrong = {name: answer.refusals.get(name) for name in ours ^ passed}
            assert ours == passed, f"{yaml.safe_dump(manifest)}\n{wrong}"
            if not names_nodes(manifest):
                assert first_reasons(answer) == reasons, yaml.safe_dump(manifest)
            fits[bool(passed)] += 1
        clear(plane, generator.prefix)
    assert fits.total() == 300
    assert min(fits[True], fits[False]) >= 20, "pods that fit somewhere and pods that fit nowhere"


def test_explain_refuses_a_cordoned_and_a_tainted_node_with_the_reasons_of_kube_scheduler(plane: ControlPlane, tmp_path: Path) -> None:
    generator = Generator(99, "explained")
    try:
        for place, spec in enumerate(({"unschedulable": True}, {"taints": [{"key": "team", "value": "red", "effect": "NoSchedule"}]}, {})):
            node = generator.node(place)
            amounts = {"cpu": "8", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "8"}
            node |= {"spec": spec, "status": {"capacity": amounts, "allocatable": amounts}}
            node["metadata"]["labels"]["explained"] = "yes"
            create(plane, node)
        container = {"name": "c", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
        spec = {"schedulerName": "nothing", "nodeSelector": {"explained": "yes"}, "containers": [container]}
        create(plane, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "explained-pod", "namespace": "default"}, "spec": spec})
        status, out, err = run(plane, "explain", "default/explained-pod", "-o", "json")
        assert status == 0, err
        answer = json.loads(out)
        assert answer["chosen"] == "explained-n2"
        rows = {row["node"]: row for row in answer["nodes"]}
        assert rows["explained-n0"]["rejection"]["reason"] == "node(s) were unschedulable"
        assert rows["explained-n1"]["rejection"]["reason"] == "node(s) had untolerated taint {team: red}"
        assert {rows[f"explained-n{place}"]["rejection"]["by"] for place in (0, 1)} == {"kube-scheduler"}
        assert plane.url in answer["cluster"]
    finally:
        clear(plane, "explained")
