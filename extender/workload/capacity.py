"""For each memory class: the most sequences, the most tokens per sequence, and the fewest GPUs that fit. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from extender.workload.memory import CLASSES_GIB, USABLE_CLASS_BYTES, Serving, footprint, tensor_parallel_problems
from extender.workload.model import ModelError, ModelShape

MOST_SEQUENCES = 1 << 16
MOST_TOKENS = 1 << 24
TENSOR_PARALLEL_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sizes that are proposed: powers of two, like the number of GPUs of most nodes."""


@dataclass(frozen=True, slots=True)
class ClassCapacity:
    """What fits on GPUs of one memory class."""

    memory_class_gb: int
    fits: bool
    """Whether the requested parallelism, context and concurrency fit."""
    largest_concurrency: int | None
    """Sequences that fit with the requested context; None: not even one."""
    largest_context: int | None
    """Tokens that fit with the requested concurrency, at most the model's context; None: not even one."""
    tensor_parallel: int | None
    """The smallest tensor parallelism that divides the model and with which the request fits; None: none up to 64."""


def capacities(model: ModelShape, serving: Serving) -> tuple[ClassCapacity, ...]:
    """Return one result per memory class. Raises ModelError if the parallelism does not divide the model."""
    return tuple(capacity(model, serving, size, USABLE_CLASS_BYTES[size]) for size in CLASSES_GIB)


def capacity(model: ModelShape, serving: Serving, memory_class_gb: int, memory_bytes: int) -> ClassCapacity:
    """Return what fits on GPUs with `memory_bytes`. Raises ModelError if the parallelism does not divide the model."""
    budget = memory_bytes * serving.utilization

    def fits(candidate: Serving) -> bool:
        return footprint(model, candidate).total_bytes <= budget

    sequences = _largest(lambda count: fits(replace(serving, concurrency=count)), MOST_SEQUENCES)
    tokens = _largest(lambda count: fits(replace(serving, context=count)), model.context or MOST_TOKENS)
    return ClassCapacity(
        memory_class_gb=memory_class_gb,
        fits=fits(serving),
        largest_concurrency=sequences,
        largest_context=tokens,
        tensor_parallel=smallest_tensor_parallel(model, serving, memory_bytes),
    )


def smallest_tensor_parallel(model: ModelShape, serving: Serving, memory_bytes: int) -> int | None:
    """Return the smallest tensor parallelism that divides heads and widths and with which the request fits; None if there is none."""
    for size in TENSOR_PARALLEL_SIZES:
        if tensor_parallel_problems(model, size):
            continue
        try:
            need = footprint(model, replace(serving, tensor_parallel=size)).total_bytes
        except ModelError:
            continue
        if need <= memory_bytes * serving.utilization:
            return size
    return None


def _largest(fits: Callable[[int], bool], most: int) -> int | None:
    """Return the largest number from 1 to `most` that fits, by bisection; None if 1 does not. If a number fits, all smaller ones must."""
    if not fits(1):
        return None
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
