"""Did we predict right? What pods really got, as soon as it is known, beside what was predicted for them."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.cluster import NodeView, Snapshot
from extender.decision.verdict import MOST_PROSPECTS, Evidence
from topology.hardware import positions_of


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction and what came of it."""

    known: Known
    expected_gbps: float | None
    in_support: bool | None
    """Whether the set was among those predicted; None where too many were for all to be kept."""


def became_known(before: Snapshot, after: Snapshot) -> tuple[Known, ...]:
    """Pods whose devices `after` knows and `before`, the snapshot before it, did not; on nodes whose topology is known."""
    found: list[Known] = []
    for name in after.changed:
        old, view = before.views.get(name), after.views.get(name)
        if view is not None and view.known:
            found += _of_node(view, old)
    return tuple(found)


def _of_node(view: NodeView, old: NodeView | None) -> list[Known]:
    table, state = view.state.table, view.state
    if table is None:
        return []
    found = []
    for pod in view.pods:
        masks = view.known.get(pod.key)
        if masks is None or (old is not None and pod.key in old.known):
            continue
        whole = sum(masks)
        told_apart = len(masks) == len(pod.demand.groups)
        speeds = [speed for mask in masks if (speed := table.busbw_gbps(mask)) is not None] if told_apart else []
        gpus = tuple(sorted(state.indices[position] for position in positions_of(whole)))
        found.append(Known(pod.key, pod.namespace, pod.name, view.name, gpus, min(speeds, default=None)))
    return found


def compare(known: Known, evidence: Evidence) -> Outcome:
    """What a pod got against what was predicted when its node was judged."""
    predicted = {prospect.gpus for prospect in evidence.prospects}
    in_support = known.gpus in predicted or (None if len(evidence.prospects) >= MOST_PROSPECTS else False)
    return Outcome(known, evidence.expected_gbps, in_support)
