"""Nodes of bundled platforms of which pods hold some GPUs, as Kubernetes objects, and the slots of a cluster of such nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.slots.slot_answer import Lost, SizeSlots, SlotsAnswer
from extender.decision.slots.slot_question import By, SlotQuestion
from extender.decision.slots.slot_summary import slots_of
from extender.decision.state.changes import Change, ClassesSeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from tests.objects import GPU, node, pod, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of

Objects = list[dict[str, Any]]


def machine_node(
    name: str,
    platform: str,
    held: Mapping[str, Sequence[int]] | None = None,
    *,
    strangers: Sequence[int] = (),
    unhealthy: Sequence[int] = (),
    offered: int | None = None,
    spec: Mapping[str, Any] | None = None,
    conditions: Sequence[Mapping[str, str]] = (),
    labels: Mapping[str, str] | None = None,
) -> Objects:
    """Return the Node, its GpuTopology and its pods.

    `held`: pod -> indices of its GPUs, which are named by the agent's status. `strangers`: indices held by a pod that the API server does
    not show. `offered`: the allocatable GPUs, by default all. The UUID of GPU 3 of node a is `GPU-a-3`.
    """
    machine, held = machine_of(platform, name), held or {}
    count = len(machine.gpus)
    allocated = [Allocation(index, f"uid-{key}", "team", key) for key, indices in held.items() for index in indices]
    allocated += [Allocation(index, "uid-stranger", "team", "stranger") for index in strangers]
    used = {each.index for each in allocated} | {*unhealthy}
    free = tuple(index for index in range(count) if index not in used)
    status = DeviceStatus(free=free, allocated=tuple(allocated), unhealthy=tuple((index, "Xid") for index in unhealthy))
    manifest = node(name, count, machine.gpus[0].product, labels=dict(labels or {}))
    manifest["spec"] = dict(spec or {})
    manifest["status"] |= {"conditions": list(conditions), "allocatable": {"cpu": "64", GPU: str(count if offered is None else offered)}}
    pods = [pod(len(indices), name=key, node=name) for key, indices in held.items()]
    return [manifest, encode(TopologyRecord(name, machine, status)), *pods]


def counted(objects: Objects | Snapshot, question: SlotQuestion, policy: Policy = DEFAULT_POLICY, classes: Any = None) -> SlotsAnswer:
    """Return the slots of a cluster with these objects."""
    state = objects if isinstance(objects, Snapshot) else snapshot(*objects)
    changes: list[Change] = [ClassesSeen(classes)] if classes else []
    return slots_of(fold_all(state, changes, GPU), question, GPU, policy=policy)


def of_size(objects: Objects | Snapshot, size: int, floor: float | None = None, policy: Policy = DEFAULT_POLICY) -> SizeSlots:
    """Return the slots of one size over all nodes."""
    return counted(objects, SlotQuestion((size,), floor_gbps=floor, by=By.PRODUCT), policy).total.sizes[0]


def lost(slots: SizeSlots) -> dict[str, int]:
    """Return the causes that lose any slot."""
    return {cause: count for cause in Lost.__struct_fields__ if (count := getattr(slots.lost, cause))}
