"""Decisions and nodes as plain data: one shape for the debug API, the command line and the decision log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from extender.decision.annotations import LINKS, Wishes
from extender.decision.cluster import NodeView, Snapshot
from extender.decision.cycle import begin
from extender.decision.demand import Demand
from extender.decision.dra.requests import PodClaims
from extender.decision.holds import NO_HOLDS, Hold, Holds
from extender.decision.inferred import inferred, inferred_answer
from extender.decision.judge import Judge, judge_all
from extender.decision.objects import Pod
from extender.decision.outcomes import Outcome
from extender.decision.pressure import Pressure
from extender.decision.reasons import Rejection
from extender.decision.rules import Rules
from extender.decision.scores import NO_RANKS, Ranker, Ranking
from extender.decision.verdict import Evidence, Verdict
from extender.settings import Scoring, Settings
from extender.telemetry.answers import telemetry_answer
from extender.telemetry.conditions import TUNING, Tuning
from topology.contradictions import contradictions
from topology.fabric import assumptions, fabric_name
from topology.hardware import positions_of
from topology.record import TopologyRecord


def rules(settings: Settings) -> Rules:
    """What verdicts depend on, out of the settings."""
    scoring, filtering = settings.scoring, settings.filtering
    return Rules(
        scoring.size_mix,
        scoring.messages,
        filtering.refuse_hazards,
        filtering.tolerated_chance,
        filtering.usable_memory_share,
        1.0 - scoring.unknown_telemetry_value,
        filtering.enforce_inferred,
        frozenset(filtering.telemetry_required_for),
    )


def tuning(settings: Settings) -> Tuning:
    """How telemetry is smoothed and when it is too old, out of the settings."""
    said = settings.telemetry
    return Tuning(
        said.half_life_seconds, said.jump_share, said.hold_share, said.restless_seconds, said.quiet_seconds, said.max_age_seconds,
        said.fatal_xids,
    )  # fmt: skip


def ranker(scoring: Scoring, lock: AbstractContextManager[object] | None = None) -> Ranker:
    """A ranker by the settings' weights and neutral values; without a lock it serves one thread alone."""
    weights = msgspec.structs.asdict(scoring.weights)
    return Ranker(weights, scoring.unknown_topology_value, scoring.unknown_memory_value, scoring.unknown_telemetry_value, lock)


def explain(
    judge: Judge, ranker: Ranker, snapshot: Snapshot, pod: Pod, resource: str, holds: Holds = NO_HOLDS, steady_seconds: float = 0.0
) -> dict[str, Any]:
    """What would be decided about the pod over all nodes, and why."""
    cycle = begin(snapshot, holds, pod, resource, steady_seconds)
    demand, names = cycle.demand, sorted({*snapshot.views, *nodes_without_view(snapshot)})
    verdicts = judge_all(judge, snapshot, demand, names, cycle.guests)
    ranks = NO_RANKS if isinstance(demand, Rejection) else ranker.rank(demand, verdicts)
    decided = ranks.decided(names, verdicts, pod.key)
    rows = [node_answer(name, verdict, ranks.get(verdict, name == decided)) for name, verdict in zip(names, verdicts, strict=True)]
    notes = notes_by_node(snapshot)
    for row in rows:
        row["notes"] += notes.get(row["node"], ())
        if promised := sum(guest.total for guest in cycle.guests.get(row["node"], ())):
            row["notes"].append(f"{promised} GPUs are promised to pods that are not seen there yet")
    rows.sort(key=_order)
    chosen = rows[0]["node"] if rows and rows[0]["feasible"] else None
    told = inferred(pod, demand, resource)
    return {"pod": pod_name(pod), "demand": demand_answer(demand), "chosen": chosen, "nodes": rows, "inferred": inferred_answer(told)}


def notes_by_node(snapshot: Snapshot) -> dict[str, list[str]]:
    """Node -> a note per object set aside that concerns it."""
    found: dict[str, list[str]] = {}
    for entry in snapshot.set_aside.values():
        if entry.node is not None:
            found.setdefault(entry.node, []).append(entry.text)
    return found


def nodes_without_view(snapshot: Snapshot) -> list[str]:
    """Known nodes of which no view could be derived."""
    return [entry.name for entry in snapshot.set_aside.values() if entry.stage == "derive" and entry.name not in snapshot.views]


def set_aside_answer(snapshot: Snapshot) -> list[dict[str, Any]]:
    """All objects that are set aside, oldest first."""
    return [
        {"kind": entry.kind, "name": entry.name, "stage": entry.stage, "node": entry.node, "why": entry.why}
        for entry in snapshot.set_aside.values()
    ]


def _order(row: Mapping[str, Any]) -> tuple[bool, int, float, str]:
    return (not row["feasible"], -(row["score"] or 0), -(row["value"] or 0.0), row["node"])


def pod_name(pod: Pod) -> str:
    """namespace/name."""
    return f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"


def demand_answer(demand: Demand | Rejection) -> dict[str, Any]:
    """A demand, or why there is none."""
    if isinstance(demand, Rejection):
        return {"problem": demand.detail}
    asked = demand.wishes
    return {
        "gpus": demand.total,
        "gpus_per_container": list(demand.groups),
        "gpus_per_init_container": [size for size, init in demand.steps if init],
        **({"slices": {resource: count for resource, count, _ in demand.slices}} if demand.slices else {}),
        **({} if demand.claims is None else {"claims": _claims(demand.claims)}),
        "min_gpu_memory_bytes": asked.min_gpu_memory_bytes,
        "messages": asked.messages,
        "min_busbw_gbps": asked.min_busbw_gbps,
        **{name: value for name, value in _asked(asked).items() if value is not None},
    }


def _claims(claims: PodClaims) -> dict[str, Any]:
    """What it asks for by ResourceClaims: what that means differs from node to node."""
    return {
        "requests": [
            {"request": one.name, "class": one.device_class, "count": "all" if one.count is None else one.count}
            for alternatives in claims.requests
            for one in alternatives
        ],
        "unknown": claims.unknown,
    }


def _asked(asked: Wishes) -> dict[str, Any]:
    """What else it asks for by annotation, in the annotations' own words."""
    return {
        "workload_class": asked.workload_class,
        "gpu_memory_classes_gb": list(asked.gpu_memory_classes_gb) if asked.gpu_memory_classes_gb else None,
        "min_free_memory_bytes": asked.min_free_memory_bytes,
        "min_link": LINKS[asked.min_link] if asked.min_link is not None else None,
        "preferred_link": LINKS[asked.preferred_link] if asked.preferred_link is not None else None,
        "preferred_busbw_gbps": asked.preferred_busbw_gbps,
        "min_compute_capability": _version(asked.min_compute_capability),
        "min_driver": _version(asked.min_driver),
        "min_cuda": _version(asked.min_cuda),
        "sharing": list(asked.sharing) if asked.sharing else None,
        "model": msgspec.to_builtins(asked.model) if asked.model else None,
    }


def _version(parts: tuple[int, ...] | None) -> str | None:
    return ".".join(map(str, parts)) if parts else None


def node_answer(name: str, verdict: Verdict, ranking: Ranking | None) -> dict[str, Any]:
    """One node's verdict with all its numbers."""
    rejection, evidence = verdict.rejection, verdict.evidence
    return {
        "node": name,
        "feasible": verdict.feasible,
        "score": ranking.score if ranking else None,
        "value": ranking.value if ranking else None,
        "rejection": {"reason": str(rejection.reason), "detail": rejection.detail, "curable": rejection.curable} if rejection else None,
        "scores": _scores(ranking),
        "best_bandwidth_gbps": evidence.best_gbps,
        "expected_bandwidth_gbps": evidence.expected_gbps,
        "worst_bandwidth_gbps": evidence.worst_gbps,
        **_predicted(evidence),
        "notes": list(evidence.notes),
        "effective_bandwidth_gbps": evidence.effective_gbps,
        "pressure": _pressure(evidence.pressure),
    }


def _predicted(evidence: Evidence) -> dict[str, Any]:
    """The sets a pod may get, likeliest first, and how many are not listed."""
    sets = []
    for prospect in evidence.prospects:
        told = {"gpus": list(prospect.gpus), "probability": prospect.probability, "bandwidth_gbps": prospect.busbw_gbps}
        sets.append(told if prospect.most_busbw_gbps is None else {**told, "most_bandwidth_gbps": prospect.most_busbw_gbps})
    return {"predicted": sets, "further_sets": evidence.further_sets, "further_probability": evidence.further_probability}


def _pressure(found: Pressure | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {"own": found.own, "neighbours": found.neighbours, "unknown_share": found.unknown_share}


def _scores(ranking: Ranking | None) -> dict[str, Any]:
    if ranking is None:
        return {}
    return {
        name: {"value": round(score.value, 6), "weight": ranking.weights.get(name, 0.0), "detail": score.detail}
        for name, score in ranking.scores.items()
    }


def outcome_answer(outcome: Outcome) -> dict[str, Any]:
    """What a pod really got, beside what was predicted."""
    known = outcome.known
    return {
        "node": known.node,
        "gpus": list(known.gpus),
        "bandwidth_gbps": known.busbw_gbps,
        "expected_bandwidth_gbps": outcome.expected_gbps,
        "in_support": outcome.in_support,
    }


def hold_answer(hold: Hold, steady_seconds: float) -> dict[str, Any]:
    """A pod that was decided for a node and is not visible there yet."""
    evidence = hold.evidence
    return {
        "pod": f"{hold.namespace}/{hold.name}",
        "uid": hold.key,
        "node": hold.node,
        "gpus": hold.demand.total,
        "expected_bandwidth_gbps": evidence.expected_gbps,
        **_predicted(evidence),
        "age_seconds": round(steady_seconds - hold.placed_steady_seconds, 3),
        "ends_in_seconds": round(hold.until_steady_seconds - steady_seconds, 3),
        "decision": hold.decision,
    }


def node_summary(view: NodeView) -> dict[str, Any]:
    """One line about a node."""
    state = view.state
    return {
        "node": view.name,
        "product": state.product,
        "gpu_memory_bytes": state.gpu_memory_bytes,
        "allocatable": state.allocatable,
        "requested": state.requested,
        "free": state.free_count,
        "topology": state.note,
        "problem": view.problem,
        "stale_since_seconds": view.stale_since_seconds,
        "disagreements": list(view.disagreements),
        "sharing": state.sharing,
        "physical_gpus": state.physical,
        "slices": [{"resource": one.resource, "sharing": one.sharing, "allocatable": one.allocatable} for one in state.slices],
        "fenced": [{"gpu": index, "why": why} for index, why, _ in state.faults],
        "telemetry_problems": list(view.telemetry_problems),
        **(
            {}
            if view.dra is None
            else {"dra": {"devices": len(view.dra.devices.devices), "unknown": view.dra.unknown, "notes": list(view.dra.notes)}}
        ),
    }


def node_detail(
    view: NodeView, record: TopologyRecord | str | None, snapshot: Snapshot | None = None, tuning: Tuning = TUNING
) -> dict[str, Any]:
    """All that is known of a node: hardware, who holds what, what is believed free, what telemetry says and how old that is."""
    detail = node_summary(view)
    detail["pods"] = [{"namespace": p.namespace, "name": p.name, "gpus": p.demand.total} for p in view.pods]
    state = view.state
    if state.table is not None and isinstance(record, TopologyRecord):
        machine = record.machine
        detail["fabric"] = fabric_name(machine)
        detail["assumed"] = list(assumptions(machine, state.table.fabric))
        detail["contradictions"] = [one.says for one in contradictions(machine)]
        detail["believed_free"] = [{"gpus": list(machine.indices(mask)), "probability": chance} for mask, chance in state.beliefs]
        detail["held"] = {
            pod.full_name: sorted(state.indices[p] for mask in view.known[pod.key] for p in positions_of(mask))
            for pod in view.pods
            if pod.key in view.known
        }
        status = record.status
        detail["allocated"] = [
            {"gpu": a.index, "namespace": a.pod_namespace, "name": a.pod_name} for a in (status.allocated if status else ())
        ]
        detail["allocations_unknown"] = status.allocations_unknown if status else None
        detail["unhealthy"] = [{"gpu": index, "reason": reason} for index, reason in (status.unhealthy if status else ())]
        detail["observed_at_seconds"] = status.observed_at_seconds if status else None
    if snapshot is not None:
        names = {pod.key: pod.full_name for pod in view.pods}
        detail["telemetry"] = telemetry_answer(snapshot.telemetry.get(view.name), snapshot.steady_seconds, names, tuning)
    return detail
