"""The most that fits: sequences, tokens per sequence, and the fewest GPUs, for each memory class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from extender.workload.memory import CLASSES_GIB, USABLE_CLASS_BYTES, Serving, footprint, tensor_parallel_problems
from extender.workload.model import ModelError, ModelShape

MOST_SEQUENCES = 1 << 16
MOST_TOKENS = 1 << 24
TENSOR_PARALLEL_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sizes that are proposed: nodes have a power of two GPUs."""


@dataclass(frozen=True, slots=True)
class ClassCapacity:
    """What a GPU of one memory class holds."""

    memory_class_gb: int
    fits: bool
    """At the asked parallelism, context and concurrency."""
    largest_concurrency: int | None
    """At the asked context; None: not even one."""
    largest_context: int | None
    """At the asked concurrency, no more than the model's; None: not even one token."""
    tensor_parallel: int | None
    """The smallest size that engines can divide the model by and that fits what is asked; None: none up to 64."""


def capacities(model: ModelShape, serving: Serving) -> tuple[ClassCapacity, ...]:
    """One for each memory class. Raises ModelError where the parallelism does not divide the model."""
    return tuple(capacity(model, serving, size, USABLE_CLASS_BYTES[size]) for size in CLASSES_GIB)


def capacity(model: ModelShape, serving: Serving, memory_class_gb: int, memory_bytes: int) -> ClassCapacity:
    """What a GPU with so much memory holds. Raises ModelError where the parallelism does not divide the model."""
    budget = memory_bytes * serving.utilization

    def fits(one: Serving) -> bool:
        return footprint(model, one).total_bytes <= budget

    sequences = _largest(lambda count: fits(replace(serving, concurrency=count)), MOST_SEQUENCES)
    tokens = _largest(lambda count: fits(replace(serving, context=count)), model.context or MOST_TOKENS)
    return ClassCapacity(memory_class_gb, fits(serving), sequences, tokens, smallest_tensor_parallel(model, serving, memory_bytes))


def smallest_tensor_parallel(model: ModelShape, serving: Serving, memory_bytes: int) -> int | None:
    """The smallest size that divides heads and widths and fits what is asked; None: none."""
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
    """The largest whole number up to `most` that fits, where every smaller one does too."""
    if not fits(1):
        return None
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
