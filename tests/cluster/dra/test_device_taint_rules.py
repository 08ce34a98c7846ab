"""DeviceTaintRules against a real kube-apiserver that serves them, and a kube-scheduler that obeys them (feature gate of 1.36)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from extender.decision.state.changes import TelemetrySeen
from extender.kube.api_client import api_client
from extender.kube.watching.watch import ClusterWatch
from extender.kube.writing.cluster_writer import cluster_writer
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.device_taints import DeviceTaints
from extender.scheduling.ports import Cluster
from extender.scheduling.supervision import Supervisor
from extender.settings import Kube
from extender.telemetry.readings import DeviceReading
from tests.checkout import ROOT
from tests.cluster.dra.dra_fleet import DraFleet, create, dra_fleet, dra_pod
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.kustomize_base import base_objects
from tests.objects import GPU

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")]
GATE = "--feature-gates=DRADeviceTaintRules=true"
NODE = "taint-hgx-h100-0"
RULES = "/apis/resource.k8s.io/v1beta2/devicetaintrules"


@pytest.fixture(scope="module")
def gated(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A second control plane, with the rights of manifests/base and manifests/device-taints."""
    gated = ControlPlane(tmp_path_factory.mktemp("gated"), [GATE, "--runtime-config=resource.k8s.io/v1beta2=true"])
    try:
        for manifest in [*base_objects(), *base_objects(ROOT / "manifests/device-taints")]:
            if manifest["kind"] in ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"):
                gated.apply(manifest)
        yield gated
    finally:
        gated.close()


@pytest.fixture
def fleet(gated: ControlPlane) -> Iterator[DraFleet]:
    with dra_fleet(gated, "taint", {"hgx-h100": 1}, without_topology=frozenset({NODE})) as fleet:
        yield fleet


@pytest.fixture
def store(gated: ControlPlane, fleet: DraFleet) -> Iterator[ClusterStore]:
    """The state as the extender's own account sees it."""
    store = ClusterStore(GPU, warm_tables=False)
    watch = ClusterWatch(api_client(str(gated.kubeconfig("fabricwise"))), store, Kube(), Metrics())
    watch.start()
    wait_for("the slices are seen", lambda: len(store.snapshot.dra.devices_of(NODE).devices) == 8 and NODE in store.snapshot.views)
    yield store
    watch.stop()


def look(fleet: DraFleet, index: int, xid: int, seconds: float) -> TelemetrySeen:
    """A reading of all GPUs of the node, one of which may report an XID."""
    gpus = fleet.machines[NODE].gpus
    readings = tuple(DeviceReading(gpu.uuid or "", index=gpu.index, xid=xid if gpu.index == index else 0) for gpu in gpus)
    return TelemetrySeen(NODE, seconds, readings, (), (), "test")


def test_rule_of_the_leader_keeps_the_real_allocator_off_a_device_until_it_recovers(
    gated: ControlPlane, fleet: DraFleet, store: ClusterStore
) -> None:
    writer = cluster_writer(api_client(str(gated.kubeconfig("fabricwise"))), 5.0)
    taints = DeviceTaints(store, Cluster("gated", writer), Supervisor(Metrics()))
    first = fleet.machines[NODE].gpus[fleet.orders[NODE][0]].index
    store.apply([look(fleet, first, 79, time.monotonic())])
    taints.reconcile()
    (rule,) = gated.client.get(RULES).json()["items"]
    assert rule["spec"]["deviceSelector"]["device"] == f"gpu-{first}"
    wait_for("the rule is seen", lambda: rule["metadata"]["name"] in store.snapshot.dra.devicetaintrules)
    view = store.snapshot.views[NODE]
    assert view.dra is not None
    assert fleet.machines[NODE].indices(view.dra.tainted) == (first,)

    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    configuration |= {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": "taint-scheduler"}], "extenders": []}
    scheduler = gated.start_scheduler("taint-scheduler", configuration, "admin", GATE)
    create(gated, dra_pod("taint-pod", "taint", 7, "taint-scheduler"))
    wait_for("the pod is bound", lambda: gated.node_of("taint-pod"))
    scheduler.stop()
    (claim,) = fleet.claims().values()
    held = fleet.devices_of(claim)
    assert held is not None
    assert first not in fleet.machines[NODE].indices(held[1])

    for seconds in (1_000.0, 2_000.0, 2_001.0):
        store.apply([look(fleet, first, 0, time.monotonic() + seconds)])
    taints.reconcile()
    assert gated.client.get(RULES).json()["items"] == []
    wait_for("the device is usable again", lambda: store.snapshot.views[NODE].dra.tainted == 0)  # type: ignore[union-attr]
