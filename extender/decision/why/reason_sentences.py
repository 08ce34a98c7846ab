"""SENTENCES: a dominant reason as one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from extender.decision.evaluate import link_classes
from extender.decision.evaluate.verdict import Evidence, Prospect
from extender.decision.node.claims_on_node import on_view
from extender.decision.node.node_state import NodeState
from extender.decision.request.annotations import LINKS
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.why.helping.remedy_case import LINK_TEXTS, Case, count_text, few, gpus_text, memory_text, number
from extender.decision.why.pod_question import Refusal
from topology.machine.hardware import mask_of

Sentence = Callable[[Case, Demand, Sequence[str]], str | None]
"""(case, what the pod asks for, the nodes with the reason, the closest first) -> the sentence; None: the general one is used."""


def sentence(case: Case, reason: str, names: Sequence[str]) -> str:
    """Return the sentence for a dominant reason; `names`: the nodes that have it, the closest first."""
    demand = case.evaluated.demand
    if isinstance(demand, Rejection):
        is_annotation = demand.detail.startswith("annotation ")
        said = f"pod's {demand.detail}" if is_annotation else f"pod {reason.removeprefix('pod ')}: {demand.detail}"
        return f"The {said.rstrip('.?')}. Every node is refused for this."
    if not names:
        return f"{_capital(reason)}."
    refusal = next(refusal for refusal in case.evaluated.refusals[names[0]] if refusal.reason == reason)
    make = SENTENCES.get(refusal.code) if refusal.code is not None else _KUBE_SENTENCES.get(refusal.plugin or "")
    made = make(case, demand, names) if make is not None else None
    return made if made is not None else _general(reason, refusal, names)


def _general(reason: str, refusal: Refusal, names: Sequence[str]) -> str:
    detail = f": {refusal.detail} ({names[0]})" if refusal.detail else ""
    return f"{_capital(reason)} on {count_text(len(names), 'node')}{detail}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _state(case: Case, name: str) -> NodeState | None:
    view = case.question.moment.snapshot.views.get(name)
    return view.state if view is not None else None


def _without_floor(case: Case, demand: Demand, name: str) -> Evidence | None:
    """Return what the pod would get on the node if it demanded no bandwidth and no link."""
    view = case.question.moment.snapshot.views.get(name)
    if view is None:
        return None
    modest = replace(demand, wishes=replace(demand.wishes, min_busbw_gbps=None, min_link=None))
    verdict = case.question.context.evaluator.evaluate(on_view(modest, view), view.state)
    return verdict.evidence if verdict.feasible else None


def _worst_prospect(evidence: Evidence) -> Prospect | None:
    known = [prospect for prospect in evidence.prospects if prospect.busbw_gbps is not None]
    return min(known, key=lambda prospect: prospect.busbw_gbps or 0.0, default=None)


def _worst_rank(case: Case, name: str, gpus: Sequence[int]) -> int | None:
    """Return the class of the worst link between some GPUs of a node, as an index of `LINKS`; None where it is unknown."""
    state = _state(case, name)
    if state is None or state.table is None or not set(gpus) <= set(state.indices):
        return None
    return link_classes.worst(state.table, mask_of([state.indices.index(gpu) for gpu in gpus]))


def _floor_taken(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    floor, evidence = demand.wishes.min_busbw_gbps, _without_floor(case, demand, names[0])
    prospect = _worst_prospect(evidence) if evidence is not None else None
    if floor is None or evidence is None or prospect is None or prospect.busbw_gbps is None:
        return None
    rank = _worst_rank(case, names[0], prospect.gpus)
    where = "" if rank is None else f" {LINK_TEXTS[LINKS[rank]]}"
    more = f" (and {len(names) - 1} more nodes are alike)" if len(names) > 1 else ""
    free = f"The free GPUs {gpus_text(prospect.gpus)} of {names[0]} reach {number(prospect.busbw_gbps)} GB/s{where}"
    return f"{free}; the floor, min-busbw, is {number(floor)}{more}."


def _link_taken(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    most, evidence = demand.wishes.min_link, _without_floor(case, demand, names[0])
    if most is None or evidence is None or evidence.worst_rank is None or not evidence.prospects:
        return None
    worst = LINKS[evidence.worst_rank]
    return f"Free GPUs of {names[0]} that the pod may get are joined {LINK_TEXTS[worst]} ({worst}); min-link is {LINKS[most]}."


def _floor_missing(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    floor, size = demand.wishes.min_busbw_gbps, max(demand.groups, default=0)
    if floor is None:
        return None
    best: tuple[float, str] | None = None
    for name in names:
        state = _state(case, name)
        extremes = state.table.extremes(state.usable, size) if state is not None and state.table is not None else None
        gbps = extremes[0].busbw_gbps if extremes else None
        if gbps is not None and (best is None or gbps > best[0]):
            best = gbps, name
    nodes = count_text(len(names), "node")
    if best is None:
        return f"The links of {few(names)} are unknown, so the floor of {number(floor)} GB/s, min-busbw, is not known to be met on {nodes}."
    return (
        f"No {size} GPUs of {nodes} reach the floor of {number(floor)} GB/s, min-busbw, not even when empty; "
        f"the best are those of {best[1]} with {number(best[0])}."
    )


def _too_few_free(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    free = {name: state.free_count for name in names if (state := _state(case, name)) is not None}
    if not free:
        return None
    most, total = max(free, key=lambda name: (free[name], name)), sum(free.values())
    if not total:
        return f"The pod needs {count_text(demand.total, 'GPU')}, and none is free on {count_text(len(names), 'node')} that would suit it."
    spread = f"; {total} are free in all, on {count_text(sum(count > 0 for count in free.values()), 'node')}" if len(free) > 1 else ""
    return f"The pod needs {count_text(demand.total, 'GPU')} on one node; at most {free[most]} are free together, on {most}{spread}."


def _too_few_gpus(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    offered = {name: state.allocatable for name in names if (state := _state(case, name)) is not None}
    if not offered or demand.slices:
        return None
    most = max(offered, key=lambda name: (offered[name], name))
    if not offered[most]:
        refusing = f"none of {len(names)} nodes offers" if len(names) > 1 else f"{most} offers not even"
        return f"The pod needs {count_text(demand.total, 'GPU')}, and {refusing} one."
    return f"The pod needs {count_text(demand.total, 'GPU')} on one node; the largest, {most}, offers {offered[most]}."


def _too_small_memory(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    sizes = {name: state.gpu_memory_bytes for name in names if (state := _state(case, name)) is not None and state.gpu_memory_bytes}
    need = max(demand.wishes.min_gpu_memory_bytes or 0, demand.inferred_memory_bytes or 0)
    if not sizes or not need:
        return None
    most = max(sizes, key=lambda name: (sizes[name] or 0, name))
    state = _state(case, most)
    product = (state.product if state is not None else None) or "its GPUs"
    return (
        f"The pod demands {memory_text(need)} per GPU; the most on {count_text(len(names), 'node')} that refuse it for this "
        f"is {memory_text(sizes[most] or 0)} ({product} of {most})."
    )


def _tainted(case: Case, _demand: Demand, names: Sequence[str]) -> str | None:
    refusal = next(refusal for refusal in case.evaluated.refusals[names[0]] if refusal.plugin == "TaintToleration")
    taint = refusal.reason.removeprefix("node(s) had untolerated taint ")
    return f"{few(names)} {'has' if len(names) == 1 else 'have'} the taint {taint} {refusal.detail}, which the pod does not tolerate."


def _cordoned(_case: Case, _demand: Demand, names: Sequence[str]) -> str | None:
    return f"{few(names)} {'is' if len(names) == 1 else 'are'} cordoned (spec.unschedulable)."


def _telemetry_required(case: Case, demand: Demand, names: Sequence[str]) -> str | None:
    named = demand.wishes.workload_class
    refusal = next(refusal for refusal in case.evaluated.refusals[names[0]] if refusal.code is Reason.TELEMETRY_UNKNOWN)
    what = f"The pod's class {named} requires" if named is not None else "The settings require"
    return f"{what} GPU telemetry, which is missing on {count_text(len(names), 'node')}: {refusal.detail} ({names[0]})."


SENTENCES: Mapping[Reason, Sentence] = {
    Reason.LINK_TAKEN: _floor_taken,
    Reason.LINK_CLASS_TAKEN: _link_taken,
    Reason.LINK_TOO_SLOW: _floor_missing,
    Reason.TOO_FEW_FREE: _too_few_free,
    Reason.TOO_FEW_GPUS: _too_few_gpus,
    Reason.TELEMETRY_UNKNOWN: _telemetry_required,
    Reason.TOO_SMALL_MEMORY: _too_small_memory,
}
_KUBE_SENTENCES: Mapping[str, Sentence] = {"TaintToleration": _tainted, "NodeUnschedulable": _cordoned}
"""By the name of kube-scheduler's plugin."""
