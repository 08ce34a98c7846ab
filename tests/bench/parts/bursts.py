"""Part `cluster`: pods per second that a real kube-scheduler binds with Fabricwise, as a share of the rate with an instant extender.

For each extender one kube-scheduler runs on one real control plane. A burst: the scheduler is stopped (SIGSTOP), its pods are created, the
scheduler goes on, and the rate is that from the first to the last binding that a watch shows. The extenders take turns.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import msgspec
import yaml

from tests.bench.clusters import GPU, Cluster, node_name
from tests.bench.processes.leash import leashed
from tests.bench.processes.servers import SETTINGS, BenchmarkError, floor
from tests.bench.report_rows import Row
from tests.bench.run import Run
from tests.checkout import ROOT
from tests.cluster.assets.kube_assets import BINARIES, MissingAssetError, etcd_binary
from tests.cluster.assets.kube_assets import cache_folder as binaries_folder
from tests.cluster.processes.control_plane import ControlPlane, Process, free_port, wait_for
from tests.cluster.processes.kustomize_base import base_objects

AIM = 0.9
"""Least accepted share of an instant extender's rate (issue 16)."""
INSTANT, FILTERING, BINDING = "instant", "fabricwise", "fabricwise-binding"
CASES = {FILTERING: "without bindVerb", BINDING: "with bindVerb"}
BURST_SECONDS = 90.0
"""Longest burst."""
PODS = "/api/v1/namespaces/default/pods"
POD_GPUS = (1, 1, 1, 2)
"""GPUs of the pods, in turn."""


class LeashedPlane(ControlPlane):
    """A control plane whose processes end with the benchmark's process."""

    def run(self, name: str, command: list[str]) -> Process:
        """A process that ends with the control plane."""
        return super().run(name, leashed(command))


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""


class _Spec(msgspec.Struct, rename="camel", frozen=True):
    node_name: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: _Pod


def missing_binaries() -> str | None:
    """Return why no control plane can run here; None if one can. Nothing is downloaded or built for the benchmark."""
    try:
        etcd_binary()
    except MissingAssetError as error:
        return str(error)
    folders = [Path(os.environ.get("KUBE_ASSETS", "/nonexistent")), *map(Path, os.get_exec_path()), binaries_folder()]
    missing = [name for name in BINARIES if not any((folder / name).is_file() for folder in folders)]
    return f"{' and '.join(missing)} not found in $KUBE_ASSETS, PATH and {binaries_folder()}" if missing else None


def bursts(run: Run) -> list[Row]:
    """Return the rates of Fabricwise without and with bindVerb beside that of an instant extender; no row without the binaries."""
    why = missing_binaries()
    if why is not None:
        print(f"part cluster is skipped: {why}; `python -m tests.cluster.assets` gets them", file=sys.stderr)
        return []
    sizes = run.sizes
    run.say(f"starting a control plane, {sizes.cluster_nodes:,} nodes")
    with ExitStack() as stack:
        plane = LeashedPlane(run.folder)
        stack.callback(plane.close)
        _populate(plane, Cluster(sizes.cluster_nodes, states=200, platforms=run.sizes.platforms))
        run.say("starting the extenders and a kube-scheduler for each")
        instant = stack.enter_context(floor())
        ours = _extender(plane, run.folder)
        schedulers = {
            INSTANT: _scheduler(plane, INSTANT, instant.url),
            FILTERING: _scheduler(plane, FILTERING, ours),
            BINDING: _scheduler(plane, BINDING, ours, bindVerb="bind"),
        }
        rates: dict[str, list[float]] = {name: [] for name in schedulers}
        for name, scheduler in schedulers.items():  # connections, caches and first sight
            _burst(plane, name, scheduler, len(POD_GPUS) * 2)
        for number in range(sizes.cluster_bursts):
            for name, scheduler in schedulers.items():
                run.say(f"burst {number + 1} of {sizes.cluster_bursts}: {name}, {sizes.cluster_pods} pods")
                rates[name].append(_burst(plane, name, scheduler, sizes.cluster_pods))
    rows = []
    for name, how in CASES.items():
        beside = median(rates[INSTANT])
        case = f"kube-scheduler, {sizes.cluster_nodes:,} nodes, {how}"
        rows.append(Row("cluster", case, "pods/s", median(rates[name]), beside, "instant extender", AIM, more_is_better=True))
    return rows


def _populate(plane: ControlPlane, cluster: Cluster) -> None:
    """Install the custom resource, and create the nodes with their GpuTopologies and the pods that hold GPUs."""
    for manifest in base_objects():
        plane.apply(manifest)
    topologies = "/apis/fabricwise.dev/v1alpha1/gputopologies"
    wait_for("the custom resource served", lambda: plane.client.get(topologies).status_code == 200)

    def create(number: int) -> None:
        name, topology = node_name(number), json.loads(cluster.topology(number))
        for path, manifest in (("/api/v1/nodes", json.loads(cluster.node(number))), (topologies, topology)):
            metadata = {"name": name, "labels": manifest["metadata"].get("labels", {})}
            _created(plane.client.post(path, json=manifest | {"metadata": metadata}))
        held = topology["status"].get("allocated", ())
        if held:
            pod = _created(plane.client.post(PODS, json=_holder(name, len(held))))["metadata"]
            for allocation in held:
                allocation |= {"podUid": pod["uid"], "podNamespace": pod["namespace"], "podName": pod["name"]}
        status = {key: topology[key] for key in ("apiVersion", "kind", "status")} | {"metadata": {"name": name}}
        headers = {"Content-Type": "application/merge-patch+json"}
        _created(plane.client.patch(f"{topologies}/{name}/status", json=status, headers=headers))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(cluster.nodes)))


def _holder(node: str, gpus: int) -> dict[str, Any]:
    """Return a pod that has run on this node from the start."""
    spec = {"nodeName": node, "containers": [{"name": "server", "image": "none", "resources": {"limits": {GPU: str(gpus)}}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"holder-{node}"}, "spec": spec}


def _created(response: httpx.Response) -> dict[str, Any]:
    if response.status_code not in (200, 201):
        raise BenchmarkError(f"{response.request.url}: {response.text[:300]}")
    written: dict[str, Any] = response.json()
    return written


def _extender(plane: ControlPlane, folder: Path) -> str:
    """Start Fabricwise on the control plane and return its address once it is ready."""
    port, config = free_port(), folder / "extender.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    command = [sys.executable, "-m", "extender", "serve", "--cluster", "kube", "--port", str(port), "--config", str(config)]
    plane.run("extender", [*command, "--kubeconfig", str(plane.kubeconfig("admin"))])
    url = f"http://127.0.0.1:{port}"
    wait_for("the extender ready", lambda: httpx.get(f"{url}/readyz").status_code == 200)
    return url


def _scheduler(plane: ControlPlane, name: str, url: str, **extender: Any) -> Process:
    """Start a kube-scheduler for pods of this schedulerName, as config/kube-scheduler.yaml has it."""
    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    configuration |= {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": name}]}
    configuration["extenders"][0] |= {"urlPrefix": f"{url}/scheduler", **extender}
    if name == INSTANT:
        configuration["extenders"][0].pop("preemptVerb")
    return plane.start_scheduler(name, configuration, "admin")


def _burst(plane: ControlPlane, name: str, scheduler: Process, pods: int) -> float:
    """Return pods per second, first to last binding, of a burst that is created before its scheduler sees it; then delete the pods."""
    with _bindings(plane, name) as bound:
        os.kill(scheduler.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: _create_pod(plane, name, number), range(pods)))
        finally:
            os.kill(scheduler.pid, signal.SIGCONT)
        wait_for(f"{pods} pods of {name} bound", lambda: len(bound) >= pods, BURST_SECONDS)
        query = {"labelSelector": f"burst={name}"}
        plane.client.request("DELETE", PODS, params=query | {"gracePeriodSeconds": "0"})
    first, last = min(bound.values()), max(bound.values())
    wait_for("pods gone", lambda: not plane.client.get(PODS, params=query | {"limit": "1"}).json()["items"])
    return (pods - 1) / (last - first)


def _create_pod(plane: ControlPlane, scheduler: str, number: int) -> None:
    resources = {"limits": {GPU: str(POD_GPUS[number % len(POD_GPUS)])}}
    spec = {"schedulerName": scheduler, "terminationGracePeriodSeconds": 0}
    spec["containers"] = [{"name": "server", "image": "none", "resources": resources}]
    metadata = {"generateName": f"{scheduler}-", "labels": {"burst": scheduler}}
    _created(plane.client.post(PODS, json={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))


@contextmanager
def _bindings(plane: ControlPlane, label: str) -> Iterator[dict[str, float]]:
    """Fill a table pod -> time at which a watch showed its binding, until the first of the pods is deleted."""
    bound: dict[str, float] = {}
    decode = msgspec.json.Decoder(_Event).decode
    version = plane.client.get(PODS, params={"limit": "1"}).json()["metadata"]["resourceVersion"]
    query = {"watch": "1", "labelSelector": f"burst={label}", "timeoutSeconds": "300", "resourceVersion": version}

    def follow(response: httpx.Response) -> None:
        with suppress(httpx.HTTPError):  # without a watch, the wait for the bindings fails
            for line in response.iter_lines():
                event = decode(line)
                if event.type in ("DELETED", "ERROR"):
                    return
                if event.object.spec.node_name:
                    bound.setdefault(event.object.metadata.name, time.monotonic())

    with plane.client.stream("GET", PODS, params=query, timeout=None) as response:
        thread = threading.Thread(target=follow, args=(response,), daemon=True)
        thread.start()
        yield bound
        thread.join(10)
