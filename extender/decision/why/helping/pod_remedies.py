"""Remedies in the pod's manifest: correct an annotation or the workload class, lower a demand to a value that is verified to fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor

from extender.decision.request.annotations import ANNOTATIONS, LINKS, PREFIX
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.why.helping.changed_pods import with_annotations, with_gpus
from extender.decision.why.helping.remedy_case import CORRECT, EVICT_MORE, LOWER, Case, Found, fitting, memory_text, number, speed_text
from extender.decision.why.pod_question import Evaluated, Refusal
from extender.workload.memory import memory_class

_MEANT = re.compile(r"did you mean (?P<value>[^\s?,]{1,60})\?")
MOST_CLASSES = 10
"""Workload classes that are tried for a pod whose class does not fit."""
_ROW_BY_REASON = {row.reason: row for row in ANNOTATIONS}


def corrected_annotation(case: Case) -> Iterator[Found]:
    """A malformed annotation: the value that was probably meant, else the accepted values, else without the annotation."""
    demand = case.evaluated.demand
    row = _ROW_BY_REASON.get(demand.reason) if isinstance(demand, Rejection) else None
    if row is None or not isinstance(demand, Rejection) or not case.pace():
        return
    names, reason, meant = _all(case), row.reason.value, _MEANT.search(demand.detail)
    if meant is not None:
        written: dict[str, str | None] = {row.key: meant["value"]}
        evaluated = fitting(with_annotations(case.question, written), names)
        yield found("correct", CORRECT, reason, f'write {row.key}: "{meant["value"]}"', evaluated, written)
    without = fitting(with_annotations(case.question, {row.key: None}), names)
    text = f"remove {row.key}" if meant is not None else f"write {row.key} as {row.kind}, such as {row.example!r}, or remove it"
    kind, cost = ("lower", LOWER) if meant is not None else ("correct", CORRECT)
    yield found(kind, cost, reason, text, without, {row.key: None})


def _all(case: Case) -> tuple[str, ...]:
    return tuple(case.evaluated.refusals)


def found(
    kind: str, cost: int, cause: str, text: str, evaluated: Evaluated | None, annotations: dict[str, str | None] | None = None
) -> Found:
    """Return a remedy with where the pod fits then; `evaluated` is None where it still fits nowhere."""
    changes = tuple((annotations or {}).items())
    best = evaluated.best if evaluated is not None else None
    if evaluated is None or best is None:
        return Found(kind, cost, cause, f"{text}; that alone does not make the pod fit", annotations=changes)
    gbps = evaluated.expected_gbps(best)
    end = f"; then it fits on {best}{speed_text(gbps)}"
    return Found(kind, cost, cause, text + end, True, len(evaluated.feasible), best, gbps, changes)


_CLASS_REASONS = frozenset(
    (
        Reason.UNKNOWN_CLASS,
        Reason.AGAINST_CLASS,
        Reason.NOT_IN_POOL,
        Reason.WRONG_PRODUCT,
        Reason.TELEMETRY_UNKNOWN,
        Reason.LINK_TOO_SLOW,
        Reason.LINK_TAKEN,
        Reason.LINK_CLASS_MISSING,
        Reason.LINK_CLASS_TAKEN,
        Reason.WRONG_MEMORY_CLASS,
        Reason.SHARING_NOT_ALLOWED,
    )
)
_CLASS_KEY = f"{PREFIX}workload-class"


def other_class(case: Case) -> Iterator[Found]:
    """A workload class that does not exist or does not fit: the nearest name, then other classes with which the pod fits."""
    demand, classes = case.evaluated.demand, case.question.moment.snapshot.classes
    stated = (case.question.pod.metadata.annotations or {}).get(_CLASS_KEY)
    if stated is None or not classes:
        return
    names = _all(case) if isinstance(demand, Rejection) else tuple(case.refused_by(_is_of_class))
    if not names or (isinstance(demand, Rejection) and demand.reason not in _CLASS_REASONS):
        return
    cause = demand.reason.value if isinstance(demand, Rejection) else case.first_cause(names[0], _is_of_class)
    near = difflib.get_close_matches(stated, classes, n=1) if stated not in classes else []
    is_unknown = stated not in classes
    others = [*near, *(name for name in sorted(classes) if name not in (*near, stated))][:MOST_CLASSES]
    shown = 0
    for name in others:
        if not case.pace() or shown >= 2:
            return
        evaluated = fitting(with_annotations(case.question, {_CLASS_KEY: name}), names)
        if evaluated is not None or name in near:
            shown += 1
            cost = CORRECT if is_unknown else LOWER
            yield found("correct" if is_unknown else "lower", cost, cause, f"use class {name}", evaluated, {_CLASS_KEY: name})
    if is_unknown and not shown:
        yield Found("correct", CORRECT, cause, f"use one of the classes {', '.join(sorted(classes)[:MOST_CLASSES])}")


def _is_of_class(refusal: Refusal) -> bool:
    return refusal.code in _CLASS_REASONS


@dataclass(frozen=True, slots=True)
class _Lowerable:
    """A demand by annotation that can be lowered."""

    name: str
    reasons: frozenset[Reason]
    value: Callable[[Evaluated, str], tuple[float, str] | None]
    """(evaluation of the pod without the annotation, feasible node) -> (how good the node is, the value that the node meets)."""
    stated: Callable[[Demand], str | None]
    """What the pod asks for now, as text."""

    @property
    def key(self) -> str:
        """The annotation's name with its prefix."""
        return PREFIX + self.name


def _floor_value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
    evidence = evaluated.verdict(name).evidence
    speeds = [evidence.worst_gbps, *(prospect.busbw_gbps for prospect in evidence.prospects)]
    known = [speed for speed in speeds if speed is not None]
    if not known or min(known) <= 0.01:
        return None
    lowest = floor(min(known) * 100) / 100
    return lowest, f"{lowest:g}"


def _memory_value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
    memory_bytes = evaluated.verdict(name).evidence.gpu_memory_bytes
    if memory_bytes is None or memory_bytes < 1 << 20:
        return None
    mebibytes = memory_bytes >> 20
    return memory_bytes, f"{mebibytes >> 10}Gi" if mebibytes >= 1024 else f"{mebibytes}Mi"


def _memory_class_value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
    memory_bytes, demand = evaluated.verdict(name).evidence.gpu_memory_bytes, evaluated.demand
    if memory_bytes is None or isinstance(demand, Rejection):
        return None
    return memory_bytes, str(memory_class(memory_bytes))


def _free_memory_value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
    view = evaluated.question.moment.snapshot.views.get(name)
    loads = view.state.device_telemetry.device_loads if view is not None else ()
    marginals = evaluated.verdict(name).evidence.marginals
    free = [load.free_bytes for load, chance in zip(loads, marginals, strict=False) if chance > 0 and load and load.free_bytes is not None]
    gibibytes = min(free, default=0) >> 30
    return (gibibytes, f"{gibibytes}Gi") if gibibytes else None


def _link_value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
    rank = evaluated.verdict(name).evidence.worst_rank
    return None if rank is None else (-rank, LINKS[rank])


def _version_value(field: str) -> Callable[[Evaluated, str], tuple[float, str] | None]:
    def value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
        view = evaluated.question.moment.snapshot.views.get(name)
        parts: tuple[int, ...] | None = getattr(view.state.facts, field) if view is not None else None
        if parts is None:
            return None
        return sum(part / 10_000**place for place, part in enumerate(parts)), ".".join(map(str, parts))

    return value


def _sharing_value(evaluated: Evaluated, name: str) -> tuple[float, str] | None:
    view = evaluated.question.moment.snapshot.views.get(name)
    return (0.0, str(view.state.sharing)) if view is not None and view.state.sharing is not None else None


def _bytes_text(amount_bytes: int | None) -> str | None:
    return None if amount_bytes is None else memory_text(amount_bytes)


def _version_text(parts: tuple[int, ...] | None) -> str | None:
    return ".".join(map(str, parts)) if parts else None


_LOWERABLE = (
    _Lowerable(
        "min-busbw",
        frozenset((Reason.LINK_TOO_SLOW, Reason.LINK_TAKEN)),
        _floor_value,
        lambda demand: None if demand.wishes.min_busbw_gbps is None else number(demand.wishes.min_busbw_gbps),
    ),
    _Lowerable(
        "min-gpu-memory",
        frozenset((Reason.TOO_SMALL_MEMORY, Reason.MEMORY_IN_USE)),
        _memory_value,
        lambda demand: _bytes_text(demand.wishes.min_gpu_memory_bytes),
    ),
    _Lowerable(
        "gpu-memory-class",
        frozenset((Reason.WRONG_MEMORY_CLASS,)),
        _memory_class_value,
        lambda demand: ",".join(map(str, demand.wishes.gpu_memory_classes_gb or ())),
    ),
    _Lowerable(
        "min-free-memory",
        frozenset((Reason.MEMORY_IN_USE,)),
        _free_memory_value,
        lambda demand: _bytes_text(demand.wishes.min_free_memory_bytes),
    ),
    _Lowerable(
        "min-link",
        frozenset((Reason.LINK_CLASS_MISSING, Reason.LINK_CLASS_TAKEN)),
        _link_value,
        lambda demand: None if demand.wishes.min_link is None else LINKS[demand.wishes.min_link],
    ),
    _Lowerable(
        "min-compute-capability",
        frozenset((Reason.COMPUTE_CAPABILITY,)),
        _version_value("compute_capability"),
        lambda demand: _version_text(demand.wishes.min_compute_capability),
    ),
    _Lowerable(
        "min-driver", frozenset((Reason.DRIVER_TOO_OLD,)), _version_value("driver"), lambda demand: _version_text(demand.wishes.min_driver)
    ),
    _Lowerable("min-cuda", frozenset((Reason.CUDA_TOO_OLD,)), _version_value("cuda"), lambda demand: _version_text(demand.wishes.min_cuda)),
    _Lowerable(
        "sharing", frozenset((Reason.SHARING_NOT_ALLOWED,)), _sharing_value, lambda demand: ",".join(demand.wishes.sharing or ()) or None
    ),
)


def lowered_demand(case: Case) -> Iterator[Found]:
    """An annotation that asks for more than any node has: the highest value with which the pod fits, verified; else without it."""
    demand, annotations = case.evaluated.demand, case.question.pod.metadata.annotations or {}
    if isinstance(demand, Rejection):
        return
    for row in _LOWERABLE:
        names = case.refused_by(lambda refusal, row=row: refusal.code in row.reasons)  # type: ignore[misc]
        if row.key not in annotations or not names or not case.pace():
            continue
        cause = case.first_cause(names[0], lambda refusal, row=row: refusal.code in row.reasons)  # type: ignore[misc]
        without = fitting(with_annotations(case.question, {row.key: None}), names)
        if without is None:
            continue
        yield _lowered(case, row, without, cause, row.stated(demand) or annotations[row.key][:40])


def _lowered(case: Case, row: _Lowerable, without: Evaluated, cause: str, stated: str) -> Found:
    values = [(value, name) for name in without.feasible if (value := row.value(without, name)) is not None]
    for (_, text), name in sorted(values, key=lambda item: -item[0][0])[:2]:
        if not case.pace():
            break
        evaluated = fitting(with_annotations(case.question, {row.key: text}), (name,))
        if evaluated is not None:
            whole = fitting(with_annotations(case.question, {row.key: text}), without.feasible) or evaluated
            return found("lower", LOWER, cause, f"lower {row.name} from {stated} to {text}", whole, {row.key: text})
    return found("lower", LOWER, cause, f"remove {row.key} ({stated})", without, {row.key: None})


def lowered_together(case: Case) -> Iterator[Found]:
    """Several demands by annotation that only together keep the pod from every node: as few as possible are lowered, on one node."""
    demand, annotations = case.evaluated.demand, case.question.pod.metadata.annotations or {}
    rows = [row for row in _LOWERABLE if row.key in annotations]
    if isinstance(demand, Rejection) or len(rows) < 2:
        return
    removed: dict[str, str | None] = {row.key: None for row in rows}
    without = fitting(with_annotations(case.question, removed), case.evaluated.refusals)
    if without is None or without.best is None or not case.pace():
        return
    changed = _restored(case, rows, removed, without, without.best)
    if len(changed) < 2:  # one demand alone: see `lowered_demand`
        return
    evaluated = fitting(with_annotations(case.question, changed), (without.best,))
    words = [_change_text(row, changed[row.key], row.stated(demand) or annotations[row.key][:40]) for row in rows if row.key in changed]
    cause = case.evaluated.refusals[without.best][0].reason
    yield found("lower", EVICT_MORE, cause, " and ".join(words), evaluated, changed)


def _restored(
    case: Case, rows: Sequence[_Lowerable], removed: Mapping[str, str | None], without: Evaluated, name: str
) -> dict[str, str | None]:
    """Return the changes that remain after each demand is restored, in full or to what the node meets, as far as the pod still fits there.

    `without`: the evaluation with all of them removed.
    """
    changed = dict(removed)
    for row in rows:
        value = row.value(without, name)
        in_full = {key: text for key, text in changed.items() if key != row.key}
        if fitting(with_annotations(case.question, in_full), (name,)) is not None:
            changed = in_full
        elif value is not None and fitting(with_annotations(case.question, changed | {row.key: value[1]}), (name,)) is not None:
            changed[row.key] = value[1]
    return changed


def _change_text(row: _Lowerable, value: str | None, stated: str) -> str:
    return f"remove {row.name} ({stated})" if value is None else f"lower {row.name} from {stated} to {value}"


_COUNT_REASONS = frozenset((Reason.TOO_FEW_FREE, Reason.TOO_FEW_GPUS, Reason.TOO_FEW_HEALTHY, Reason.NUMA_ALIGNMENT))


def fewer_gpus(case: Case) -> Iterator[Found]:
    """Too few GPUs on one node: the largest smaller number, at least half of it, with which the pod fits."""
    demand = case.evaluated.demand
    names = case.refused_by(lambda refusal: refusal.code in _COUNT_REASONS)
    if isinstance(demand, Rejection) or demand.total < 2 or demand.claims is not None or not names:
        return
    cause = case.first_cause(names[0], lambda refusal: refusal.code in _COUNT_REASONS)
    powers = {1 << power for power in range(8)}
    sizes = sorted((size for size in {*powers, demand.total - 1} if demand.total <= 2 * size < 2 * demand.total), reverse=True)
    for size in sizes:
        if not case.pace():
            return
        evaluated = fitting(with_gpus(case.question, size), names)
        if evaluated is not None:
            gpus = ((case.question.resource, str(size)),)
            base = found("lower", LOWER, cause, f"request {size} instead of {demand.total} GPUs", evaluated)
            yield Found(base.kind, base.cost, base.cause, base.text, True, base.nodes, base.node, base.bandwidth_gbps, requests=gpus)
            return
