"""The conformance cases that need a real kube-scheduler or a real API server; `tests/conformance` has the list."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
import yaml

from tests.certificates import Authority
from tests.checkout import ROOT
from tests.cluster.fleets.fleet import Kubelets, scheduled
from tests.cluster.fleets.rig import Rig, rigged
from tests.cluster.processes.control_plane import ControlPlane, Extender, free_port, wait_for
from tests.cluster.processes.kustomize_base import base_objects
from topology.gputopology.topology_record import DeviceStatus

pytestmark = pytest.mark.cluster


@pytest.fixture
def rig(plane: ControlPlane) -> Iterator[Rig]:
    with rigged(plane, "conf", {"hgx-h100": 2, "dgx-1v": 1}) as rig:
        yield rig


@pytest.fixture
def may_bind(plane: ControlPlane) -> Iterator[None]:
    """manifests/bind applied, and taken back."""
    objects = [plane.apply(manifest) for manifest in base_objects(ROOT / "manifests/bind")]
    yield
    for manifest in objects:
        plane.client.delete(plane.path(manifest))


def bind(extender: Extender, name: str, uid: str, node: str) -> str:
    body = {"PodName": name, "PodNamespace": "default", "PodUID": uid, "Node": node}
    return str(extender.client.post("/scheduler/bind", json=body).json()["Error"])


def created(rig: Rig, name: str, gpus: int = 2) -> str:
    """Create a pod that no scheduler places. Returns its uid, once the extender must know the pod."""
    rig.create(rig.pod(name, gpus, "nobody"))
    return str(rig.plane.pods()[name]["metadata"]["uid"])


def test_bind_is_idempotent_and_requires_the_uid(rig: Rig, may_bind: None) -> None:
    extender = rig.extender()
    uid = created(rig, "conf-a", 2)
    wait_for("the right to bind in force", lambda: bind(extender, "conf-a", uid, "conf-hgx-h100-0") == "")
    bound = rig.plane.pods()["conf-a"]
    assert bound["spec"]["nodeName"] == "conf-hgx-h100-0"
    record = json.loads(bound["metadata"]["annotations"]["fabricwise.dev/decision"])
    assert (record["node"], record["expectedGbps"]) == ("conf-hgx-h100-0", 360.0)
    assert sum(one["probability"] for one in record["predicted"]) > 0.4
    assert record["id"]

    assert bind(extender, "conf-a", uid, "conf-hgx-h100-0") == "", "again is the same"
    assert "already bound to conf-hgx-h100-0" in bind(extender, "conf-a", uid, "conf-hgx-h100-1")
    rig.delete("conf-a")
    other = created(rig, "conf-a", 2)
    assert "replaced by another" in bind(extender, "conf-a", uid, "conf-hgx-h100-0"), "same name, another pod"
    assert rig.plane.node_of("conf-a") is None
    assert bind(extender, "conf-a", other, "conf-hgx-h100-1") == ""


def test_failed_bind_returns_its_error_text(rig: Rig) -> None:
    """Without manifests/bind the API server refuses; then the node is no longer feasible; then no API server answers."""
    extender = rig.extender()
    uid = created(rig, "conf-b", 2)
    error = bind(extender, "conf-b", uid, "conf-hgx-h100-0")
    assert "forbidden" in error, error
    assert rig.plane.node_of("conf-b") is None
    assert "not there" in bind(extender, "conf-none", "no-such-uid", "conf-hgx-h100-0") or "forbidden" in error

    rig.fleet.status["conf-dgx-1v-0"] = DeviceStatus(None, (), tuple((n, "Xid 79") for n in range(7)), time.time())
    rig.fleet.publish("conf-dgx-1v-0")
    wait_for("seven sick", lambda: extender.client.get("/v1/nodes/conf-dgx-1v-0").json()["free"] == 1)
    assert "too few healthy GPUs" in bind(extender, "conf-b", uid, "conf-dgx-1v-0")

    rig.plane.api_server.kill()
    try:
        started = time.monotonic()
        assert bind(extender, "conf-b", uid, "conf-hgx-h100-0"), "no answer is no success"
        assert time.monotonic() - started < 15, "nothing hangs"
    finally:
        rig.plane.api_server.start()
        rig.plane.wait_ready()
    assert rig.plane.node_of("conf-b") is None


def test_pods_are_bound_once_when_the_extender_is_killed_while_it_binds(rig: Rig, may_bind: None) -> None:
    """The extender is killed while it binds a burst for a real kube-scheduler: each pod is bound once, and no pod stays assumed."""
    extender = rig.extender()
    rig.scheduler("conf-scheduler", extender.url, bindVerb="bind")
    with Kubelets(rig.fleet, "conf-r") as kubelets:
        for number in range(20):
            rig.create(rig.pod(f"conf-r{number:02d}", 1, "conf-scheduler"))
        wait_for("bindings under way", lambda: len(scheduled(rig.plane, "conf-r")) >= 2)
        extender.process.kill()
        bound_before = len(scheduled(rig.plane, "conf-r"))
        extender.process.start()
        extender.wait_ready()
        wait_for("all bound", lambda: len(kubelets.devices) == 20)
        print(f"\nkilled with {bound_before} of 20 bound; all bound in the end")
        annotated = [p for p in scheduled(rig.plane, "conf-r").values() if "fabricwise.dev/decision" in p["metadata"]["annotations"]]
        assert len(annotated) == 20, "all of them by us"


def test_placement_record_is_an_event_without_the_bind_verb(rig: Rig) -> None:
    extender = rig.extender()
    rig.scheduler("conf-scheduler", extender.url)
    wait_for("leading", lambda: "fabricwise_leading 1.0" in extender.client.get("/metrics").text, 30)
    rig.create(rig.pod("conf-e", 2, "conf-scheduler"))
    query = {"fieldSelector": "involvedObject.name=conf-e,reason=GpusPredicted"}

    def events() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = rig.plane.client.get("/api/v1/namespaces/default/events", params=query).json()["items"]
        return found

    (event,) = wait_for("the event", events)
    decision = next(d for d in extender.decisions("default/conf-e") if d["decided"])
    assert event["message"].startswith(f"placed on {decision['decided']}: GPUs {{")
    assert event["message"].endswith(f"360.0 GB/s expected (decision {decision['id']})")
    assert "fabricwise.dev/decision" not in rig.plane.pods()["conf-e"]["metadata"].get("annotations", {})


@pytest.mark.parametrize("grace_seconds", [0, 300], ids=["gone at once", "going for a while"])
def test_preemption_evicts_only_for_devices_that_help(rig: Rig, grace_seconds: int) -> None:
    """Three nodes full of low-priority pods; only two have victims whose GPUs form the set that the pod demands. Exactly one victim is
    evicted, however long that takes, and the pod gets its GPUs."""
    for value in (10, 1000):
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": f"conf-{value}"}, "value": value}
        rig.plane.apply(priority)
    extender = rig.extender()
    rig.scheduler("conf-scheduler", extender.url)
    with Kubelets(rig.fleet, "conf-p") as kubelets:
        for number in range(6):  # the fast nodes and the DGX-1V fill up in quads
            manifest = rig.pod(f"conf-p{number}", 4, "conf-scheduler", 10)
            manifest["spec"]["terminationGracePeriodSeconds"] = grace_seconds
            rig.create(manifest)
        wait_for("all served", lambda: len(kubelets.devices) == 6)
        on_slow = [name for name, (node, _) in kubelets.devices.items() if node == "conf-dgx-1v-0"]
        assert len(on_slow) == 2
        rig.create(rig.pod("conf-vip", 4, "conf-scheduler", 1000, min_busbw="300"))
        if grace_seconds:
            (victim,) = wait_for("a victim told to end", lambda: _going(rig))
            time.sleep(4)  # during the grace period, further scheduling attempts must not evict other pods
            assert _going(rig) == [victim]
            assert rig.plane.node_of("conf-vip") is None
            rig.delete(victim)
            ended = time.monotonic()
        node: str = wait_for("the VIP bound", lambda: rig.plane.node_of("conf-vip"), 60)
        if grace_seconds:
            print(f"\nvictim gone to VIP bound: {time.monotonic() - ended:.1f} s, the agent's status still naming the victim")
        assert node.startswith("conf-hgx-h100")
        left = [name for name in rig.plane.pods() if name.startswith("conf-p")]
        assert len(left) == 5, "one victim, and no cascade"
        assert set(on_slow) <= set(left)


def _going(rig: Rig) -> list[str]:
    return [name for name, found in rig.plane.pods().items() if name.startswith("conf-p") and found["metadata"].get("deletionTimestamp")]


def test_100_x_50_event_storm(rig: Rig) -> None:
    """A hundred parked pods, fifty updates of a bound one: each update requeues all of them. The cost of a refusal does not grow."""
    extender = rig.extender()
    rig.scheduler("conf-scheduler", extender.url)
    rig.create(rig.pod("conf-bound", 1, "conf-scheduler"))
    wait_for("a pod bound", lambda: rig.plane.node_of("conf-bound"))
    for number in range(100):
        rig.create(rig.pod(f"conf-s{number:03d}", 2, "conf-scheduler", min_gpu_memory="900Gi"))
    wait_for("all parked", lambda: _parked(rig) == 100)
    begun, seconds = _filtered(extender), []
    for number in range(50):
        before = _filtered(extender)
        patch = {"metadata": {"labels": {"storm": str(number)}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        rig.plane.client.patch("/api/v1/namespaces/default/pods/conf-bound", content=json.dumps(patch), headers=headers)
        time.sleep(0.15)
        count, spent = (after - then for after, then in zip(_filtered(extender), before, strict=True))
        if count:
            seconds.append(spent / count)
    calls = _filtered(extender)[0] - begun[0]
    early, late = median(seconds[: len(seconds) // 4]), median(seconds[-(len(seconds) // 4) :])
    print(f"\n{calls:.0f} filter calls; {1e6 * early:.0f} us each in the first quarter, {1e6 * late:.0f} in the last")
    assert 0 < calls <= 100 * 50 * 1.1, "no amplification of ours on top"
    assert late < 3 * early
    assert _parked(rig) == 100


def _parked(rig: Rig) -> int:
    found = [p["status"].get("conditions") or [] for name, p in rig.plane.pods().items() if name.startswith("conf-s")]
    return sum(any("GPU memory class too small" in (c.get("message") or "") for c in conditions) for conditions in found)


def _filtered(extender: Extender) -> tuple[float, float]:
    """Filter calls so far, and seconds spent in them."""
    found = {}
    for line in extender.client.get("/metrics").text.splitlines():
        for what in ("count", "sum"):
            if line.startswith(f'fabricwise_verb_seconds_{what}{{verb="filter"}}'):
                found[what] = float(line.split()[-1])
    return found.get("count", 0.0), found.get("sum", 0.0)


def client_of(authority: Path, pair: tuple[Path, Path] | None) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(authority))
    if pair is not None:
        context.load_cert_chain(*map(str, pair))
    return httpx.Client(verify=context, timeout=10)


def test_rotated_certificates_are_used_without_a_restart(rig: Rig, tmp_path: Path) -> None:
    """A real kube-scheduler with a client certificate; then certificate, key and CA of the server are replaced under both of them."""
    old, new = Authority("old"), Authority("new")
    ca_file, folder = old.write(tmp_path / "ca.crt"), tmp_path / "server"
    folder.mkdir()
    old.issue(folder, "server")
    scheduler_pair = old.issue(tmp_path, "scheduler")
    tls = {"cert_file": str(folder / "server.crt"), "key_file": str(folder / "server.key"), "client_ca_file": str(ca_file)}
    config = tmp_path / "extender.yaml"
    health = free_port()
    config.write_text(yaml.safe_dump({"telemetry": {"source": "off"}, "server": {"tls": tls, "health_port": health}}))
    extender = Extender(rig.plane, "conf-tls", config)
    extender.client.close()
    url = extender.url.replace("http://", "https://")
    try:
        with client_of(ca_file, scheduler_pair) as trusted:
            wait_for("ready over TLS", lambda: trusted.get(f"{url}/readyz").status_code == 200)
            wait_for("nodes seen", lambda: len(trusted.get(f"{url}/v1/nodes").json()["nodes"]) >= 3)
        assert httpx.get(f"http://127.0.0.1:{health}/readyz").status_code == 200, "the kubelet has no certificate"
        assert "fabricwise_synced 1.0" in httpx.get(f"http://127.0.0.1:{health}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{health}/v1/nodes").status_code == 404
        with client_of(ca_file, None) as anonymous, pytest.raises(httpx.HTTPError):
            anonymous.get(f"{url}/readyz")
        files = {"caFile": str(ca_file), "certFile": str(scheduler_pair[0]), "keyFile": str(scheduler_pair[1])}
        rig.scheduler("conf-scheduler", url, enableHTTPS=True, tlsConfig=files)
        rig.create(rig.pod("conf-t1", 2, "conf-scheduler"))
        wait_for("a pod bound over mTLS", lambda: rig.plane.node_of("conf-t1"))

        (folder / "server.crt").write_text("half a rotation")
        with client_of(ca_file, scheduler_pair) as trusted:
            assert trusted.get(f"{url}/readyz").status_code == 200, "files that do not fit leave the old ones in place"
        new.issue(folder, "server")
        new_ca = new.write(tmp_path / "new-ca.crt")
        ca_file.write_bytes(new_ca.read_bytes())
        rotated = new.issue(tmp_path, "rotated")
        with client_of(new_ca, rotated) as trusted:
            assert trusted.get(f"{url}/readyz").status_code == 200
        with client_of(new_ca, scheduler_pair) as outdated, pytest.raises(httpx.HTTPError):
            outdated.get(f"{url}/readyz")
        rig.create(rig.pod("conf-t2", 2, "conf-scheduler"))
        wait_for("the open connection goes on", lambda: rig.plane.node_of("conf-t2"))
        files = {"caFile": str(new_ca), "certFile": str(rotated[0]), "keyFile": str(rotated[1])}
        rig.scheduler("conf-rotated", url, enableHTTPS=True, tlsConfig=files)
        rig.create(rig.pod("conf-t3", 2, "conf-rotated"))
        wait_for("a scheduler with the new ones", lambda: rig.plane.node_of("conf-t3"))
    finally:
        extender.process.stop()
