"""What can be inferred from a pod's containers, and warnings about the pod. They are for people and never reject a node by themselves."""

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
"""Tokens and sequences where the command line gives none: a design choice, large enough to recognise a model that does not fit."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that is inferred from a pod."""

    containers: tuple[Inferred, ...] = ()
    warnings: tuple[str, ...] = ()
    need_bytes: int | None = None
    """Memory per GPU; None where no description of the model makes it computable."""


NOTHING_INFERRED = Workload()


def inferred(pod: Pod, demand: Demand | Rejection, resource: str) -> Workload:
    """Return what the pod's command lines and annotations imply, with warnings. `demand`: as `pod_request.classified` returns it.

    For a rejected demand: only the warnings about unknown annotations.
    """
    if isinstance(demand, Rejection):
        return Workload(warnings=unknown_names(pod.metadata.annotations))
    model = demand.wishes.model
    containers, texts, need = [], [*unknown_names(pod.metadata.annotations), *_undefined_class(demand)], None
    for container, gpus in _gpu_containers(pod, demand, resource):
        facts = infer(_line(container, gpus))
        if facts is None:
            continue
        containers.append(facts)
        texts += warnings(facts)
        if model is not None:
            footprint_or_error = _footprint(facts, model)
            if isinstance(footprint_or_error, str):
                texts.append(f"container {facts.container}: {footprint_or_error}")
            else:
                share = facts.value(UTILIZATION)
                share = share if isinstance(share, float) else DEFAULT_UTILIZATION
                need = max(need or 0, int(footprint_or_error.total_bytes / share))
    minimum = demand.wishes.min_gpu_memory_bytes
    if need is not None and minimum is not None and minimum < need:
        texts.append(f"its model needs {need / 2**30:.0f} GiB per GPU, but it asks for GPUs of {minimum / 2**30:.0f}")
    return Workload(tuple(containers), tuple(texts), need) if containers or texts else NOTHING_INFERRED


def _undefined_class(demand: Demand) -> tuple[str, ...]:
    """Return a warning for a pod that names a class while none are loaded. Where some are loaded, an undefined name is a rejection."""
    name = demand.wishes.workload_class
    if name is None or demand.workload is not None:
        return ()
    return (
        f"workload class {name} is not defined and changes nothing: no workload classes are loaded. "
        "Start with --workload-classes FILE (config/workload-classes.yaml has six), or remove the annotation",
    )


def with_inference(demand: Demand | Rejection, pod: Pod, resource: str) -> Demand | Rejection:
    """Return the demand with the memory per GPU that its model needs, where an annotation describes the model."""
    if isinstance(demand, Rejection) or demand.wishes.model is None:
        return demand
    return replace(demand, inferred_memory_bytes=inferred(pod, demand, resource).need_bytes)


def _gpu_containers(pod: Pod, demand: Demand, resource: str) -> list[tuple[Container, int]]:
    """Return the containers that request GPUs, with their number of GPUs; `demand.steps` has the same order."""
    containers = []
    steps = iter(demand.steps)
    for container in [*(pod.spec.init_containers or []), *(pod.spec.containers or [])]:
        resources = container.resources
        named = resources is not None and (resource in (resources.requests or {}) or resource in (resources.limits or {}))
        step = next(steps, None) if named and not _zero(container, resource) else None
        if step is not None:
            containers.append((container, step[0]))
    return containers


def _zero(container: Container, resource: str) -> bool:
    assert container.resources is not None
    requests, limits = container.resources.requests or {}, container.resources.limits or {}
    return str(requests.get(resource, limits.get(resource))) == "0"


def _line(container: Container, gpus: int) -> CommandLine:
    environment = {variable.name: variable.value for variable in container.env or [] if variable.value is not None}
    words = (*(container.command or []), *(container.args or []))
    return CommandLine(container.name or "?", container.image or "", words, environment, gpus)


def _footprint(facts: Inferred, model: ModelShape) -> Footprint | str:
    """Return the memory that a model needs with the options of a command line; a str states why it cannot be computed."""
    quantization, dtype = facts.value(QUANTIZATION), facts.value(DTYPE)
    width = QUANTIZATION_BYTES.get(str(quantization)) if quantization else DTYPE_BYTES.get(str(dtype)) if dtype else None
    context = facts.number(CONTEXT) or min(model.context or USUAL_CONTEXT, USUAL_CONTEXT)
    # A mixture of experts is not replicated: engines divide its experts among the data-parallel replicas.
    replicated = facts.number(DATA) is not None and model.active_parameters is None
    tensor = facts.number(TENSOR) or (1 if replicated else max(1, facts.gpus))
    try:
        return footprint(model, Serving(context, USUAL_CONCURRENCY, tensor, facts.number(PIPELINE) or 1, width))
    except ModelError as error:
        return str(error)


def inferred_answer(workload: Workload) -> dict[str, Any]:
    """Return what was inferred as plain data."""
    return {
        "facts": [
            {"container": container.container, "engine": container.engine, "fact": fact.name, "value": fact.value, "from": fact.source}
            for container in workload.containers
            for fact in container.facts
        ],
        "gpu_memory_bytes": workload.need_bytes,
        "warnings": list(workload.warnings),
    }
