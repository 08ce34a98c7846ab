"""Outcomes of predictions: the devices that pods were allocated, as soon as they are known, compared with the prediction. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.evaluate.verdict import MOST_PROSPECTS, Evidence, masks_in
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.node_state import NodeView
from extender.decision.state.snapshot import Snapshot
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import positions_of, union_of


@dataclass(frozen=True, slots=True)
class Known:
    """The devices of a pod, newly known. `gpus` are nvidia-smi indices."""

    key: str
    """The pod's uid."""
    namespace: str
    name: str
    node: str
    gpus: tuple[int, ...]
    busbw_gbps: float | None
    """Of the slowest container with two GPUs or more; None if there is none, or if the GPUs of single containers are unknown."""
    mask: int = 0
    """The same GPUs as positions."""
    complete: bool = True
    """Whether these are all allocated GPUs: GPUs that only finished init containers used are in no list."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction compared with the allocation."""

    known: Known
    expected_gbps: float | None
    in_support: bool | None
    """Whether the allocated set is among the predicted sets; None if the prediction is approximate or does not list all sets."""


def became_known(before: Snapshot, after: Snapshot) -> tuple[Known, ...]:
    """Return the pods whose devices are known in `after` and not in `before`, the previous snapshot, on nodes with a known topology.

    On a node with an agent, a pod is left out while only its own status names devices and these are not those of all containers: the agent
    will name the rest.
    """
    newly_known: list[Known] = []
    for name in after.changed:
        old, view = before.views.get(name), after.views.get(name)
        if view is not None and view.known:
            newly_known += _of_node(view, old, _has_agent(before, name), _has_agent(after, name))
    return tuple(newly_known)


def _has_agent(snapshot: Snapshot, name: str) -> bool:
    record, view = snapshot.topologies.get(name), snapshot.views.get(name)
    return isinstance(record, TopologyRecord) and record.status is not None and view is not None and view.stale_since_seconds is None


def _of_node(view: NodeView, old: NodeView | None, had_agent: bool, has_agent: bool) -> list[Known]:
    table, state = view.state.table, view.state
    if table is None:
        return []
    newly_known = []
    for pod in view.pods:
        masks = view.known.get(pod.key, ())
        was_known = old is not None and _is_known(pod, old.known.get(pod.key, ()), had_agent)
        if was_known or not _is_known(pod, masks, has_agent):
            continue
        whole = union_of(masks)
        per_container = len(masks) == len(pod.demand.groups)
        speeds = [speed for mask in masks if (speed := table.busbw_gbps(mask)) is not None] if per_container else []
        newly_known.append(
            Known(
                key=pod.key,
                namespace=pod.namespace,
                name=pod.name,
                node=view.name,
                gpus=tuple(sorted(state.indices[position] for position in positions_of(whole))),
                busbw_gbps=min(speeds, default=None),
                mask=whole,
                complete=whole.bit_count() >= pod.demand.total,
            )
        )
    return newly_known


def _is_known(pod: BoundPod, masks: tuple[int, ...], has_agent: bool) -> bool:
    """Return whether no source will name further devices: the agent also names those of sidecars, the pod's own status does not."""
    return bool(masks) and (not has_agent or union_of(masks).bit_count() >= sum(pod.demand.groups))


def compare(known: Known, evidence: Evidence) -> Outcome:
    """Return the outcome: a pod's known devices compared with the evidence of the decision about it."""
    return Outcome(known, evidence.expected_gbps, _in_support(known, evidence))


def _in_support(known: Known, evidence: Evidence) -> bool | None:
    if evidence.support is None:
        is_listed = any(prospect.gpus == known.gpus for prospect in evidence.prospects)
        return is_listed or (None if len(evidence.prospects) >= MOST_PROSPECTS else False)
    masks = masks_in(evidence.support)
    is_predicted = known.mask in masks if known.complete else any(not known.mask & ~mask for mask in masks)
    return is_predicted or (False if evidence.support_complete else None)
