"""Did we predict right? What pods really got, as soon as it is known, beside what was predicted for them."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.evaluate.verdict import MOST_PROSPECTS, Evidence, masks_in
from extender.decision.node.allocations import BoundPod
from extender.decision.node.node_state import NodeView
from extender.decision.state.snapshot import Snapshot
from topology.gputopology import TopologyRecord
from topology.machine.hardware import positions_of, union_of


@dataclass(frozen=True, slots=True)
class Known:
    """The devices of a pod, newly known. `gpus` are nvidia-smi indices."""

    key: str
    namespace: str
    name: str
    node: str
    gpus: tuple[int, ...]
    busbw_gbps: float | None
    """Of its slowest container with two GPUs or more; None where there is none, or where containers are not told apart."""
    mask: int = 0
    """The same GPUs as positions."""
    complete: bool = True
    """Whether these are all that the pod holds: what finished init containers had beyond the other containers is in no list."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction and what came of it."""

    known: Known
    expected_gbps: float | None
    in_support: bool | None
    """Whether the set was among those predicted; None where the prediction is not exact, or not all sets are told."""


def became_known(before: Snapshot, after: Snapshot) -> tuple[Known, ...]:
    """Pods whose devices `after` knows and `before`, the snapshot before it, did not; on nodes whose topology is known.

    Where an agent reports on the node, it is waited for if the pod's own status names only some containers' devices.
    """
    found: list[Known] = []
    for name in after.changed:
        old, view = before.views.get(name), after.views.get(name)
        if view is not None and view.known:
            found += _of_node(view, old, _has_agent(before, name), _has_agent(after, name))
    return tuple(found)


def _has_agent(snapshot: Snapshot, name: str) -> bool:
    record, view = snapshot.topologies.get(name), snapshot.views.get(name)
    return isinstance(record, TopologyRecord) and record.status is not None and view is not None and view.stale_since_seconds is None


def _of_node(view: NodeView, old: NodeView | None, had_agent: bool, has_agent: bool) -> list[Known]:
    table, state = view.state.table, view.state
    if table is None:
        return []
    found = []
    for pod in view.pods:
        masks = view.known.get(pod.key, ())
        was_known = old is not None and _is_known(pod, old.known.get(pod.key, ()), had_agent)
        if was_known or not _is_known(pod, masks, has_agent):
            continue
        whole = union_of(masks)
        told_apart = len(masks) == len(pod.demand.groups)
        speeds = [speed for mask in masks if (speed := table.busbw_gbps(mask)) is not None] if told_apart else []
        gpus = tuple(sorted(state.indices[position] for position in positions_of(whole)))
        complete = whole.bit_count() >= pod.demand.total
        found.append(Known(pod.key, pod.namespace, pod.name, view.name, gpus, min(speeds, default=None), whole, complete))
    return found


def _is_known(pod: BoundPod, masks: tuple[int, ...], has_agent: bool) -> bool:
    """Whether all that some source will name is known: the agent names the devices of sidecars too, the pod's own status does not."""
    return bool(masks) and (not has_agent or union_of(masks).bit_count() >= sum(pod.demand.groups))


def compare(known: Known, evidence: Evidence) -> Outcome:
    """What a pod got against what was predicted when its node was judged."""
    return Outcome(known, evidence.expected_gbps, _in_support(known, evidence))


def _in_support(known: Known, evidence: Evidence) -> bool | None:
    if evidence.support is None:
        listed = any(prospect.gpus == known.gpus for prospect in evidence.prospects)
        return listed or (None if len(evidence.prospects) >= MOST_PROSPECTS else False)
    masks = masks_in(evidence.support)
    found = known.mask in masks if known.complete else any(not known.mask & ~mask for mask in masks)
    return found or (False if evidence.support_complete else None)
