"""Pods of every shape, compared with the kubelet's accounting: which devices they hold, which are listed, which are free."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.request.pod_request import Demand, demand_of
from tests.objects import GPU, container, node, pod, pod_struct, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import union_of
from topology.platforms import machine_of

MACHINE = machine_of("hgx-h100", "u")
EVERYTHING = (1 << 8) - 1

Shape = tuple[tuple[str, int], ...]
"""Containers in the order of the pod's spec: (kind, GPUs); kinds are init, sidecar, main. Main containers come last."""


@dataclass
class DeviceManager:
    """The kubelet's device manager for one pod: each container takes reusable devices first, then free ones.

    Source: kubernetes 1.36 `pkg/kubelet/cm/devicemanager/manager.go` (Allocate, devicesToAllocate): the devices of an init container that
    ends become reusable; a sidecar or main container removes from the reusable ones what it is given. All stay allocated to the pod.
    """

    dice: random.Random
    free: int = EVERYTHING
    reusable: int = 0
    given: list[tuple[str, int]] = field(default_factory=list)
    """(kind, mask) per container."""

    def serve(self, kind: str, size: int) -> None:
        """Allocate the devices of one container."""
        reused = self._some(self.reusable, min(size, self.reusable.bit_count()))
        fresh = self._some(self.free, size - reused.bit_count())
        self.free &= ~fresh
        self.reusable = self.reusable | fresh if kind == "init" else self.reusable & ~reused
        self.given.append((kind, reused | fresh))

    def _some(self, mask: int, count: int) -> int:
        return union_of(1 << place for place in self.dice.sample([place for place in range(8) if mask >> place & 1], count))

    @property
    def allocated(self) -> int:
        """All devices of the pod in the kubelet's checkpoint."""
        return union_of(mask for _, mask in self.given)

    @property
    def listed(self) -> int:
        """What PodResources lists: main containers and sidecars."""
        return union_of(mask for kind, mask in self.given if kind != "init")

    @property
    def on_the_pod(self) -> list[int]:
        """What `allocatedResourcesStatus` names: main containers only."""
        return [mask for kind, mask in self.given if kind == "main"]


def manifest_of(shape: Shape) -> dict[str, Any]:
    """A pod of that shape, bound to the node."""
    always = {"sidecar": {"restartPolicy": "Always"}, "init": {}}
    inits = [container(gpus, f"i{place}", **always[kind]) for place, (kind, gpus) in enumerate(shape) if kind != "main"]
    mains = [gpus for kind, gpus in shape if kind == "main"]
    return pod(*mains, name="shaped", node="n", spec={"initContainers": inits, "nodeName": "n"}, status={"phase": "Running"})


def with_own_status(manifest: dict[str, Any], masks: list[int]) -> dict[str, Any]:
    """The pod with the devices of its main containers in its status."""
    statuses = []
    for place, mask in enumerate(masks):
        ids = [{"resourceID": gpu.uuid} for position, gpu in enumerate(MACHINE.gpus) if mask >> position & 1]
        statuses.append({"name": f"c{place}", "allocatedResourcesStatus": [{"name": GPU, "resources": ids}]})
    return {**manifest, "status": {"phase": "Running", "containerStatuses": statuses}}


def reported(mask: int) -> dict[str, Any]:
    """The GpuTopology by which the pod holds the mask and all else is free."""
    indices = [place for place in range(8) if mask >> place & 1]
    entries = tuple(Allocation(index, None, "team", "shaped") for index in indices)
    free = tuple(index for index in range(8) if index not in indices)
    return encode(TopologyRecord("n", MACHINE, DeviceStatus(free, entries, (), 1.0)))


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Init containers and sidecars in any order, then main containers, some without GPUs; at most eight GPUs at the peak."""
    inits = draw(st.lists(st.tuples(st.sampled_from(["init", "sidecar"]), st.integers(0, 4)), max_size=4))
    mains = draw(st.lists(st.tuples(st.just("main"), st.integers(0, 3)), min_size=1, max_size=3))
    return (*inits, *mains)


def served(shape: Shape, seed: int) -> DeviceManager | None:
    """The kubelet after the pod's admission; None where eight GPUs are too few, or it asks for none."""
    demand = demand_of(pod_struct(manifest_of(shape)), GPU)
    assert isinstance(demand, Demand)
    if not 0 < demand.total <= 8:
        return None
    kubelet = DeviceManager(random.Random(seed))
    for kind, size in shape:
        kubelet.serve(kind, size)
    return kubelet


@given(shapes(), st.integers(0, 1000))
def test_demand_counts_as_many_gpus_as_the_kubelet_allocates(shape: Shape, seed: int) -> None:
    kubelet = served(shape, seed)
    if kubelet is not None:
        demand = demand_of(pod_struct(manifest_of(shape)), GPU)
        assert isinstance(demand, Demand)
        assert demand.total == kubelet.allocated.bit_count()


@given(shapes(), st.integers(0, 1000), st.booleans(), st.booleans())
def test_free_sets_have_as_many_gpus_as_the_kubelet_has_free(shape: Shape, seed: int, has_agent: bool, has_own: bool) -> None:
    """With each combination of sources; devices that no source names are predicted among the rest."""
    kubelet = served(shape, seed)
    if kubelet is None:
        return
    manifest = with_own_status(manifest_of(shape), kubelet.on_the_pod) if has_own else manifest_of(shape)
    record = reported(kubelet.listed) if has_agent else encode(TopologyRecord("n", MACHINE))
    view = snapshot(node("n", 8), record, manifest).views["n"]
    named = kubelet.listed * has_agent | union_of(kubelet.on_the_pod) * has_own
    assert union_of(view.known.get("uid-shaped", ())) == named
    assert view.disagreements == ()
    for mask, _ in view.state.free_sets:
        assert mask.bit_count() == kubelet.free.bit_count()
        assert not mask & named, "a named device is not free"
    assert sum(chance for _, chance in view.state.free_sets) == pytest.approx(1, abs=1e-6)


# name -> (shape, GPUs that the agent lists, GPUs that the pod's own status names, free sets)
CASES: dict[str, tuple[Shape, tuple[int, ...], tuple[tuple[int, ...], ...], set[int]]] = {
    "sidecar, by both": ((("sidecar", 2), ("main", 2)), (0, 1, 2, 3), ((0, 1),), {0b11110000}),
    "sidecar, by the agent": ((("sidecar", 2), ("main", 2)), (0, 1, 2, 3), (), {0b11110000}),
    "init container that asks for less": ((("init", 1), ("main", 2)), (0, 1), ((0, 1),), {0b11111100}),
    "init container that asks for one more": (
        (("init", 3), ("main", 2)),
        (0, 1),
        ((0, 1),),
        {0b11111000, 0b11110100, 0b11101100, 0b11011100, 0b10111100, 0b01111100},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_free_sets_exclude_named_devices_and_the_surplus_of_init_containers(case: str) -> None:
    shape, listed, own, expected = CASES[case]
    manifest = manifest_of(shape)
    if own:
        manifest = with_own_status(manifest, [union_of(1 << place for place in group) for group in own])
    view = snapshot(node("n", 8), reported(union_of(1 << place for place in listed)), manifest).views["n"]
    assert view.disagreements == ()
    assert {mask for mask, _ in view.state.free_sets} == expected


def test_surplus_of_an_init_container_is_most_likely_where_the_plugin_would_have_put_it() -> None:
    """The init container has four GPUs of one socket and the main container two of them: the other two are probably allocated."""
    view = snapshot(node("n", 8), reported(0b0011), manifest_of((("init", 4), ("main", 2)))).views["n"]
    assert view.state.free_sets[0][0] == 0b11110000
    assert view.state.free_sets[0][1] > 0.6
