"""Five hundred pods at once on a hundred nodes, against a real kube-scheduler: all bound, all floors met, as good as one at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from statistics import mean
from typing import Any

import pytest

from tests.cluster.fleets.fleet import Kubelets
from tests.cluster.fleets.rig import Rig, rigged
from tests.cluster.processes.control_plane import ControlPlane, wait_for

pytestmark = pytest.mark.cluster

NODES = {"dgx-1v": 30, "hgx-h100": 20, "a100-pcie-bridge-pairs": 20, "rtx4090": 20, "l4": 10}
PODS = 500
FLOORS = {2: ("40", "200"), 4: ("70",)}
"""GB/s that a part of the pods demand: an NVLink of a DGX-1V, an NVLink bridge, a quad of a DGX-1V."""


@pytest.fixture(scope="module")
def rig(plane: ControlPlane) -> Iterator[Rig]:
    with rigged(plane, "burst", NODES) as rig:
        rig.extender()
        yield rig


def wanted(prefix: str, rig: Rig, scheduler: str = "burst-scheduler") -> list[dict[str, Any]]:
    """The same five hundred every time: 670 of 800 GPUs, and a third of those with several GPUs demand a bandwidth."""
    dice = random.Random(5)
    sizes = [1] * 410 + [2] * 60 + [4] * 25 + [8] * 5
    dice.shuffle(sizes)
    manifests = []
    for number, size in enumerate(sizes):
        floor = dice.choice(FLOORS[size]) if size in FLOORS and dice.random() < 0.35 else None
        manifests.append(rig.pod(f"{prefix}-{number:03d}", size, scheduler, min_busbw=floor))
    return manifests


def floors(manifests: list[dict[str, Any]]) -> dict[str, float]:
    told = {m["metadata"]["name"]: m["metadata"]["annotations"].get("fabricwise.dev/min-busbw") for m in manifests}
    return {name: float(text) for name, text in told.items() if text}


def mean_gbps(kubelets: Kubelets) -> float:
    """Over the pods of several GPUs."""
    speeds = [speed for speed in kubelets.speeds.values() if speed > 0]
    return mean(speeds)


def placed(rig: Rig, prefix: str, one_at_a_time: bool, extended: bool = True) -> tuple[float, float, int]:
    """Create them, let kubelets and agents do their part, delete them. (mean GB/s, pods per second, pods below their floor).

    In a burst kube-scheduler starts when all of them wait already.
    """
    scheduler = f"{prefix}-scheduler"
    manifests = wanted(prefix, rig, scheduler)
    if one_at_a_time:
        process = rig.scheduler(scheduler, rig.extenders[0].url if extended else None)
    with Kubelets(rig.fleet, prefix) as kubelets:
        for manifest in manifests:
            rig.create(manifest)
            if one_at_a_time:
                name = manifest["metadata"]["name"]
                wait_for(f"{name} served", lambda name=name: name in kubelets.devices)  # type: ignore[misc]
                node = kubelets.devices[name][0]
                held = len(rig.fleet.status[node].allocated)
                wait_for("seen", lambda n=node, h=held: len(rig.extenders[0].client.get(f"/v1/nodes/{n}").json()["allocated"]) == h)  # type: ignore[misc]
        if not one_at_a_time:
            process = rig.scheduler(scheduler, rig.extenders[0].url if extended else None)
        wait_for("all bound and served", lambda: len(kubelets.devices) == PODS, 240)
        process.stop()
        took = kubelets.order[-1][0] - kubelets.order[0][0]
        result = mean_gbps(kubelets), PODS / took, _below(kubelets, manifests)
        nodes = Counter(node for node, _ in kubelets.devices.values())
        assert sum(nodes.values()) == PODS, "zero lost"
        rig.delete(prefix)
        kubelets.forget(list(kubelets.devices))
    wait_for("all free again", lambda: _all_free(rig))
    return result


def _below(kubelets: Kubelets, manifests: list[dict[str, Any]]) -> int:
    return sum(kubelets.speeds[name] < floor for name, floor in floors(manifests).items())


def _all_free(rig: Rig) -> bool:
    rows = {row["node"]: row for row in rig.extenders[0].client.get("/v1/nodes").json()["nodes"]}
    return all(rows[name]["free"] == len(machine.gpus) for name, machine in rig.fleet.machines.items())


def test_a_burst_of_500_pods_on_100_nodes_is_as_good_as_one_at_a_time(rig: Rig) -> None:
    burst, rate, below = placed(rig, "burst-a", one_at_a_time=False)
    single, _, single_below = placed(rig, "burst-b", one_at_a_time=True)
    plain, plain_rate, plain_below = placed(rig, "burst-c", one_at_a_time=False, extended=False)
    print(f"\nburst {burst:.1f} GB/s mean, one at a time {single:.1f} ({burst / single - 1:+.2%}), without extender {plain:.1f}")
    print(f"below their floor: burst {below}, one at a time {single_below}, without extender {plain_below}")
    print(f"pods/s, first to last binding: {rate:.0f} with the extender, {plain_rate:.0f} without: ratio {rate / plain_rate:.2f}")
    decisions = rig.extenders[0].client.get("/metrics").text
    print([line for line in decisions.splitlines() if line.startswith(("fabricwise_verb_seconds_sum", "fabricwise_verb_seconds_count"))])
    assert below == single_below == 0
    assert burst > single * 0.98
    assert plain_below > 0, "the floors are none that would hold by themselves"
