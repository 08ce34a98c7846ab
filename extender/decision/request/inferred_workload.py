"""What a pod's containers let us infer, and what looks wrong about the pod: told to people, never a reason to refuse by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from extender.decision.request.annotations import unknown_names
from extender.decision.request.kubernetes_objects import Container, Pod
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from extender.workload.checkpoint.schemes import DTYPE_BYTES, QUANTIZATION_BYTES
from extender.workload.memory import DEFAULT_UTILIZATION, Footprint, Serving, footprint
from extender.workload.model import ModelError, ModelShape
from extender.workload.serving.inference import CommandLine, Inferred, infer, warnings
from extender.workload.serving.serving_engines import CONTEXT, DATA, DTYPE, PIPELINE, QUANTIZATION, TENSOR, UTILIZATION

USUAL_CONTEXT, USUAL_CONCURRENCY = 8192, 16
"""Tokens and sequences where nobody says: enough to tell a model that fits from one that does not."""


@dataclass(frozen=True, slots=True)
class Workload:
    """All that is inferred of a pod."""

    containers: tuple[Inferred, ...] = ()
    warnings: tuple[str, ...] = ()
    need_bytes: int | None = None
    """Memory per GPU, where a model description makes that computable."""


NOTHING_INFERRED = Workload()


def inferred(pod: Pod, demand: Demand | Rejection, resource: str) -> Workload:
    """What the pod's command lines tell, beside what it asks for; of a demand that is refused, its annotations' unknown names alone.

    `demand`: as `demand.classified` returns it.
    """
    if isinstance(demand, Rejection):
        return Workload(warnings=unknown_names(pod.metadata.annotations))
    model = demand.wishes.model
    found, said, need = [], [*unknown_names(pod.metadata.annotations), *_undefined_class(demand)], None
    for container, gpus in _gpu_containers(pod, demand, resource):
        one = infer(_line(container, gpus))
        if one is None:
            continue
        found.append(one)
        said += warnings(one)
        if model is not None:
            footprint_or_why = _need(one, model)
            if isinstance(footprint_or_why, str):
                said.append(f"container {one.container}: {footprint_or_why}")
            else:
                share = one.value(UTILIZATION)
                share = share if isinstance(share, float) else DEFAULT_UTILIZATION
                need = max(need or 0, int(footprint_or_why.total_bytes / share))
    minimum = demand.wishes.min_gpu_memory_bytes
    if need is not None and minimum is not None and minimum < need:
        said.append(f"its model needs {need / 2**30:.0f} GiB per GPU, but it asks for GPUs of {minimum / 2**30:.0f}")
    return Workload(tuple(found), tuple(said), need) if found or said else NOTHING_INFERRED


def _undefined_class(demand: Demand) -> tuple[str, ...]:
    """A warning for a pod that names a class while none is defined: where some are, naming another is a refusal already."""
    name = demand.wishes.workload_class
    if name is None or demand.workload is not None:
        return ()
    return (
        f"workload class {name} is not defined and changes nothing: no workload classes are loaded. "
        "Start with --workload-classes FILE (config/workload-classes.yaml has six), or remove the annotation",
    )


def with_inference(demand: Demand | Rejection, pod: Pod, resource: str) -> Demand | Rejection:
    """The demand with the memory its model is reckoned to need, where a model is described: that alone makes it computable."""
    if isinstance(demand, Rejection) or demand.wishes.model is None:
        return demand
    return replace(demand, inferred_memory_bytes=inferred(pod, demand, resource).need_bytes)


def _gpu_containers(pod: Pod, demand: Demand, resource: str) -> list[tuple[Container, int]]:
    """The containers that ask for GPUs, with how many; the steps of a demand are in their order."""
    found = []
    steps = iter(demand.steps)
    for container in [*(pod.spec.init_containers or []), *(pod.spec.containers or [])]:
        amounts = container.resources
        named = amounts is not None and (resource in (amounts.requests or {}) or resource in (amounts.limits or {}))
        step = next(steps, None) if named and not _zero(container, resource) else None
        if step is not None:
            found.append((container, step[0]))
    return found


def _zero(container: Container, resource: str) -> bool:
    assert container.resources is not None
    requests, limits = container.resources.requests or {}, container.resources.limits or {}
    return str(requests.get(resource, limits.get(resource))) == "0"


def _line(container: Container, gpus: int) -> CommandLine:
    environment = {variable.name: variable.value for variable in container.env or [] if variable.value is not None}
    words = (*(container.command or []), *(container.args or []))
    return CommandLine(container.name or "?", container.image or "", words, environment, gpus)


def _need(one: Inferred, model: ModelShape) -> Footprint | str:
    quantization, dtype = one.value(QUANTIZATION), one.value(DTYPE)
    width = QUANTIZATION_BYTES.get(str(quantization)) if quantization else DTYPE_BYTES.get(str(dtype)) if dtype else None
    context = one.number(CONTEXT) or min(model.context or USUAL_CONTEXT, USUAL_CONTEXT)
    replicated = one.number(DATA) is not None and model.active_parameters is None  # of a mixture, engines divide the experts among replicas
    tensor = one.number(TENSOR) or (1 if replicated else max(1, one.gpus))
    try:
        return footprint(model, Serving(context, USUAL_CONCURRENCY, tensor, one.number(PIPELINE) or 1, width))
    except ModelError as error:
        return str(error)


def inferred_answer(found: Workload) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "facts": [
            {"container": one.container, "engine": one.engine, "fact": fact.name, "value": fact.value, "from": fact.source}
            for one in found.containers
            for fact in one.facts
        ],
        "gpu_memory_bytes": found.need_bytes,
        "warnings": list(found.warnings),
    }
