"""Dynamic Resource Allocation against a real kube-apiserver and kube-scheduler; ResourceSlices need no kubelet."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT
from tests.cluster.dra.dra_fleet import DraFleet, create, dra_fleet, dra_pod
from tests.cluster.processes.control_plane import ControlPlane, Extender, wait_for

pytestmark = pytest.mark.cluster

FIVE = {"hgx-h100": 1, "dgx-a100": 1, "dgx-1v": 1, "a100-pcie-bridge-pairs": 1, "l40s": 1}
PODS = 300


def start_scheduler(plane: ControlPlane, name: str, extender: Extender) -> Any:
    """A kube-scheduler that shows all its pods to the extender, those with claims alone included."""
    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    configuration |= {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": name}]}
    configuration["extenders"][0] |= {"urlPrefix": f"{extender.url}/scheduler", "httpTimeout": "5s", "managedResources": []}
    return plane.start_scheduler(name, configuration, "admin")


def start_extender(plane: ControlPlane, name: str, fleet: DraFleet) -> Extender:
    config = plane.folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"telemetry": {"source": "off"}}))
    extender = Extender(plane, name, config)
    extender.wait_ready()

    def sees_all() -> bool:
        rows = {row["node"]: row for row in extender.client.get("/v1/nodes").json()["nodes"]}
        return all(name in rows and rows[name]["free"] == len(machine.gpus) for name, machine in fleet.machines.items())

    wait_for("the extender sees every node", sees_all)
    return extender


@pytest.fixture(scope="module")
def fleet(plane: ControlPlane) -> Iterator[DraFleet]:
    with dra_fleet(plane, "dra", FIVE) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def extender(plane: ControlPlane, fleet: DraFleet) -> Iterator[Extender]:
    extender = start_extender(plane, "dra-extender", fleet)
    scheduler = start_scheduler(plane, "dra-scheduler", extender)
    yield extender
    scheduler.stop()
    extender.close()


def predicted(extender: Extender, pod: str, node: str) -> list[tuple[frozenset[int], float]]:
    """What the last decision on a pod predicted for the node: sets of GPU indices, likeliest first."""
    for decision in extender.decisions(f"default/{pod}") or extender.decisions(pod):
        for row in decision["nodes"]:
            if row["node"] == node and row["feasible"]:
                return [(frozenset(one["gpus"]), one["probability"]) for one in row["predicted"]]
    return []


def free_by_claims(fleet: DraFleet) -> dict[str, int]:
    """GPUs per node that no claim holds."""
    free = {name: len(machine.gpus) for name, machine in fleet.machines.items()}
    for claim in fleet.claims().values():
        held = fleet.devices_of(claim)
        if held is not None:
            free[held[0]] -= held[1].bit_count()
    return free


def make_room(fleet: DraFleet, extender: Extender, running: list[str], dice: random.Random) -> list[str]:
    """Delete running pods until three nodes have room for the largest pod each, and wait until the extender sees that; the pods left.

    A claim that is freed while pods wait may be seen by kube-scheduler and the extender in a different order, which is not tested here.
    """
    left = list(running)
    while sum(free == 8 for free in free_by_claims(fleet).values()) < 3:
        dice.shuffle(left)
        fleet.delete(left[:2])
        left = left[2:]

    def sees_all() -> bool:
        rows = {row["node"]: row["free"] for row in extender.client.get("/v1/nodes").json()["nodes"]}
        return all(rows.get(name) == free for name, free in free_by_claims(fleet).items())

    wait_for("the extender sees what is free", sees_all)
    return left


def test_predictions_of_300_pods_as_extended_resources_and_claims_match_the_allocator(
    plane: ControlPlane, fleet: DraFleet, extender: Extender
) -> None:
    dice = random.Random(17)
    running: list[str] = []
    in_support = most_likely = compared = 0
    misses = []
    for number in range(0, PODS, 3):
        batch = {f"dra-{place:03d}": dice.choice((1, 1, 1, 2, 2, 4, 8)) for place in range(number, number + 3)}
        running = make_room(fleet, extender, running, dice)
        for name, gpus in batch.items():
            create(plane, dra_pod(name, "dra", gpus, "dra-scheduler", dice.random() < 0.5))
        deadline = time.monotonic() + 120
        while waiting := [name for name in batch if plane.node_of(name) is None]:
            assert time.monotonic() < deadline, f"{waiting} are not bound: {plane.pods()[waiting[0]]['status']}"
            if running and time.monotonic() > deadline - 119.5:
                dice.shuffle(running)
                gone, running = running[:4], running[4:]
                fleet.delete(gone)
            time.sleep(0.05)
        claims, pods = fleet.claims(), plane.pods()
        for name in batch:
            held = fleet.devices_of(claims[str(fleet.claim_of(pods[name]))])
            assert held is not None
            node, mask = held
            indices = frozenset(fleet.machines[node].indices(mask))
            sets = predicted(extender, name, node)
            compared += 1
            in_support += any(one == indices for one, _ in sets)
            most_likely += bool(sets) and sets[0][0] == indices
            if not sets or sets[0][0] != indices:
                misses.append((name, node, sorted(indices), [(sorted(one), chance) for one, chance in sets[:3]]))
        running += batch
    print(f"\n{compared} pods: {in_support / compared:.1%} in the predicted support, {most_likely / compared:.1%} the most likely")
    print(*misses[:10], sep="\n")
    fleet.delete(running)
    assert compared == PODS
    assert in_support / compared >= 0.995
    assert most_likely / compared >= 0.95


@pytest.fixture(scope="module")
def mixed(plane: ControlPlane) -> Iterator[tuple[DraFleet, Extender]]:
    plugin = frozenset({"mix-t4-0", "mix-dgx-1v-0"})
    without = frozenset({"mix-l40s-0", "mix-t4-1"})
    counts = {"hgx-h100": 1, "t4": 2, "l40s": 1, "dgx-1v": 1}
    with dra_fleet(plane, "mix", counts, plugin=plugin, without_topology=without) as fleet:
        extender = start_extender(plane, "mix-extender", fleet)
        scheduler = start_scheduler(plane, "mix-scheduler", extender)
        try:
            yield fleet, extender
        finally:
            scheduler.stop()
            extender.close()


def test_in_a_mixed_cluster_no_pod_is_rejected_that_fits_and_none_bound_that_does_not(
    plane: ControlPlane, mixed: tuple[DraFleet, Extender]
) -> None:
    fleet, _ = mixed
    dice = random.Random(3)
    sizes = {f"mix-{number:02d}": dice.choice((1, 2, 3, 4, 8)) for number in range(24)}
    claims = {name for name in sizes if dice.random() < 0.3}
    for name, gpus in sizes.items():
        create(plane, dra_pod(name, "mix", gpus, "mix-scheduler", name in claims))

    def settled() -> bool:
        pods = plane.pods()
        return all(pods[name]["spec"].get("nodeName") or pods[name]["status"].get("conditions") for name in sizes)

    wait_for("every pod is bound or refused", settled)
    time.sleep(12)  # longer than the scheduler's backoff: what can be bound is bound
    pods, allocations = plane.pods(), fleet.claims()
    free = {name: len(machine.gpus) for name, machine in fleet.machines.items()}
    taken = dict.fromkeys(free, 0)
    for name, gpus in sizes.items():
        node = pods[name]["spec"].get("nodeName")
        if node is None:
            continue
        free[node] -= gpus
        if node not in fleet.plugin:
            held = fleet.devices_of(allocations[str(fleet.claim_of(pods[name]))])
            assert held is not None
            assert held[0] == node
            assert held[1].bit_count() == gpus
            assert not taken[node] & held[1], "no device is given twice"
            taken[node] |= held[1]
        assert name not in claims or node not in fleet.plugin
    print(f"\nfree at the end: {free}")
    assert all(left >= 0 for left in free.values())
    for name, gpus in sizes.items():
        if pods[name]["spec"].get("nodeName") is None:
            suitable = [node for node, left in free.items() if left >= gpus and (name not in claims or node not in fleet.plugin)]
            assert not suitable, f"{name} asks for {gpus}: {pods[name]['status']}"
    assert any(pods[name]["spec"].get("nodeName") in fleet.plugin for name in sizes)


def test_kube_scheduler_refuses_the_implicit_resource_of_a_class_among_managed_resources(plane: ControlPlane) -> None:
    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    configuration |= {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": "dra-refused"}]}
    configuration["extenders"][0]["managedResources"] = [{"name": "deviceclass.resource.kubernetes.io/gpu.nvidia.com"}]
    scheduler = plane.start_scheduler("dra-refused", configuration, "admin")
    wait_for("kube-scheduler's refusal", lambda: "is an invalid extended resource name" in scheduler.tail())
    scheduler.stop()
