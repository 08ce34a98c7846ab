"""A bound pod: its GPUs and their bandwidth, predicted and actual, what limits it, its neighbours, and where it would be placed now."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import msgspec

from extender.decision.node.node_state import NodeView
from extender.decision.request.kubernetes_objects import Container, Meta, Pod, PodSpec, Resources
from extender.decision.state.pods import RECORD_ANNOTATION
from extender.decision.state.snapshot import Snapshot
from extender.decision.state.without_bound_pod import without_bound_pod
from extender.decision.why.pod_question import Evaluated, Question, unbound, unbound_kube_pod
from extender.decision.why.why_types import WhyCandidate, WhyNeighbour, WhyPlacement
from extender.telemetry.conditions import DeviceCondition
from extender.telemetry.signals import POWER_BRAKE, THERMAL
from topology.bandwidth.bottleneck import why as limits_of
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import positions_of, union_of
from topology.nvlink_faults import link_faults

BETTER_SHARE = 1.1
"""A placement is better if it gives at least a tenth more bandwidth: less is within the error of the model (docs/bandwidth.md)."""
MOST_NEIGHBOURS = 50
_MOST_RECORD = 64 << 10
"""Characters of the annotation with the placement record that are read."""


def placement_of(question: Question, node: str, predicted_gbps: float | None = None) -> WhyPlacement:
    """Return where the bound pod of `question` is. `predicted_gbps`: the prediction, where the pod's own annotation has none."""
    snapshot, key = question.moment.snapshot, question.pod.key
    view = snapshot.views.get(node)
    masks = view.known.get(key, ()) if view is not None else ()
    actual, limits, best = _speeds(view, masks) if view is not None else (None, [], None)
    recorded = _recorded_gbps(question.pod)
    predicted = recorded if recorded is not None else predicted_gbps
    better = _better(question, node, masks, actual if actual is not None else predicted)
    return WhyPlacement(
        node=node,
        gpus=_indices(view, union_of(masks)) if view is not None and masks else None,
        predicted_gbps=predicted,
        actual_gbps=actual,
        best_on_node_gbps=best[0] if best is not None else None,
        best_on_node_gpus=_indices(view, best[1]) if best is not None and view is not None else None,
        limits=limits,
        faults=_faults(snapshot, view, union_of(masks)) if view is not None else [],
        neighbours=_neighbours(view, key) if view is not None else [],
        better=better,
        gain_gbps=_gain(better, actual if actual is not None else predicted),
    )


def _indices(view: NodeView | None, mask: int) -> list[int]:
    return sorted(view.state.indices[position] for position in positions_of(mask)) if view is not None else []


def _speeds(view: NodeView, masks: tuple[int, ...]) -> tuple[float | None, list[str], tuple[float, int] | None]:
    """Return (GB/s of the slowest container, what limits it, (GB/s, GPUs) of the best set of its size on the empty node)."""
    table = view.state.table
    slowest: tuple[float, int] | None = None
    for mask in masks if table is not None else ():
        gbps = table.busbw_gbps(mask) if table is not None else None
        if gbps is not None and (slowest is None or gbps < slowest[0]):
            slowest = gbps, mask
    if slowest is None or table is None:
        return None, [], None
    extremes = table.extremes(view.state.usable | slowest[1], slowest[1].bit_count())
    best = (extremes[0].busbw_gbps, extremes[0].mask) if extremes else None
    limits = list(limits_of(view.machine, table.fabric, positions_of(slowest[1]))) if view.machine is not None else []
    return slowest[0], limits, (best[0], best[1]) if best is not None and best[0] is not None else None


def _recorded_gbps(pod: Pod) -> float | None:
    """Return `expectedGbps` of the pod's placement record; None where it has none. A user may have written it: it is only shown."""
    text = (pod.metadata.annotations or {}).get(RECORD_ANNOTATION, "")
    try:
        record: Any = msgspec.json.decode(text) if 0 < len(text) <= _MOST_RECORD else None
    except (msgspec.DecodeError, RecursionError):
        return None
    gbps = record.get("expectedGbps") if isinstance(record, dict) else None
    return float(gbps) if isinstance(gbps, int | float) and isfinite(gbps) and 0 <= gbps < 1e6 else None


def _faults(snapshot: Snapshot, view: NodeView, mask: int) -> list[str]:
    """Return the faults and signs of trouble of the pod's GPUs."""
    indices = set(_indices(view, mask))
    faults = [f"GPU {index}: {text}" for index, text, _ in view.state.faults if index in indices]
    record = snapshot.topologies.get(view.name)
    if isinstance(record, TopologyRecord):
        missing = [fault for fault in link_faults(record.machine) if fault.index in indices]
        faults += [f"GPU {fault.index}: {fault.up} of {fault.expected} NVLinks are up, {fault.witness}" for fault in missing]
        if record.status is not None:
            faults += [f"GPU {index}: {why}" for index, why in record.status.unhealthy if index in indices]
    telemetry = snapshot.telemetry.get(view.name)
    by_uuid = {gpu.uuid: gpu.index for gpu in view.machine.gpus if gpu.uuid} if view.machine is not None else {}
    for (uuid, instance), condition in telemetry.devices.items() if telemetry is not None else ():
        index = by_uuid.get(uuid, condition.reading.index)
        if instance is None and index in indices:
            faults += [f"GPU {index}: {text}" for text in _troubles(condition)]
    return list(dict.fromkeys(faults))


def _troubles(condition: DeviceCondition) -> list[str]:
    texts = list(condition.suspicions)
    reasons, celsius = condition.reading.throttle_reasons or 0, condition.reading.temperature_celsius
    if reasons & THERMAL:
        texts.append(f"clocks are reduced by heat{f' ({celsius:.0f} degrees Celsius)' if celsius is not None else ''}")
    if reasons & POWER_BRAKE:
        texts.append("clocks are reduced by the power brake")
    return texts


def _neighbours(view: NodeView, key: str) -> list[WhyNeighbour]:
    loads = view.state.device_telemetry.device_loads
    neighbours = []
    for pod in view.pods:
        if pod.key == key:
            continue
        mask = union_of(view.known.get(pod.key, ()))
        strains = [load.strain for position in positions_of(mask) if position < len(loads) and (load := loads[position]) is not None]
        known = [strain for strain in strains if strain is not None]
        indices = _indices(view, mask) if mask else None
        neighbours.append(WhyNeighbour(pod=pod.full_name, gpus=pod.demand.total, indices=indices, busy=max(known, default=None)))
    return neighbours[:MOST_NEIGHBOURS]


def _better(question: Question, node: str, masks: tuple[int, ...], now_gbps: float | None) -> WhyCandidate | None:
    """Return where the pod would be placed now if it were not bound, if it gets more bandwidth there; else None."""
    evaluated = evaluated_anew(question)
    best = evaluated.best
    if best is None or now_gbps is None:
        return None
    candidate = candidate_of(evaluated, best)
    gpus = tuple(candidate.gpus)
    view = question.moment.snapshot.views.get(node)
    if best == node and view is not None and gpus == tuple(_indices(view, union_of(masks))):
        return None
    return candidate if (candidate.bandwidth_gbps or 0.0) >= BETTER_SHARE * now_gbps else None


def evaluated_anew(question: Question) -> Evaluated:
    """Return the evaluation of a bound pod as if it had not been bound."""
    pod, context = question.pod, question.context
    full_name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    before = without_bound_pod(question.moment.snapshot, pod.key, full_name, context.resource, context.defaults)
    around = question.around
    if around.pods is not None:
        others = {
            name: tuple(each for each in pods if each.metadata.uid != pod.key or not pod.metadata.uid) for name, pods in around.pods.items()
        }
        around = replace(around, pods=others)
    return replace(
        question,
        pod=unbound(pod),
        kube_pod=unbound_kube_pod(question.kube_pod) if question.kube_pod is not None else None,
        moment=replace(question.moment, snapshot=before),
        around=around,
    ).evaluated()


def candidate_of(evaluated: Evaluated, best: str) -> WhyCandidate:
    """Return a feasible node with what the pod can expect there."""
    evidence = evaluated.verdict(best).evidence
    prospect = evidence.prospects[0] if evidence.prospects else None
    return WhyCandidate(
        node=best,
        nodes=len(evaluated.feasible),
        gpus=list(prospect.gpus) if prospect is not None else [],
        probability=prospect.probability if prospect is not None else None,
        bandwidth_gbps=evidence.expected_gbps,
    )


def _gain(better: WhyCandidate | None, now_gbps: float | None) -> float | None:
    return None if better is None or better.bandwidth_gbps is None or now_gbps is None else round(better.bandwidth_gbps - now_gbps, 6)


def pod_of_bound(snapshot: Snapshot, key: str, resource: str) -> Pod | None:
    """Return a bound pod with what the snapshot keeps of it: GPUs per container, floor and priority; None where it is unknown."""
    bound = snapshot.pods.get(key)
    if bound is None:
        return None

    def container(place: int, gpus: int) -> Container:
        return Container(f"c{place}", Resources(limits={resource: str(gpus)}))

    stays = [container(place, gpus) for place, (gpus, ends) in enumerate(bound.demand.steps) if not ends]
    ends = [container(place, gpus) for place, (gpus, ends) in enumerate(bound.demand.steps) if ends]
    annotations = {"fabricwise.dev/min-busbw": f"{bound.floor_gbps:g}"} if bound.floor_gbps is not None else None
    meta = Meta(name=bound.name, namespace=bound.namespace, uid=key, annotations=annotations)
    return Pod(meta, PodSpec(containers=stays, init_containers=ends, node_name=bound.node, priority=bound.priority))
