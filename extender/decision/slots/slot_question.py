"""What is asked about slots, within bounds, and the pod that it stands for.

A slot is one more pod with one container that requests a number of GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from extender.decision.request.annotations import LEAST_MEMORY_BYTES, MOST_BYTES, MOST_GBPS, Wishes
from extender.decision.request.pod_request import Demand, classified
from extender.decision.request.quantity import quantity
from extender.decision.request.workload_classes import WorkloadClass

DEFAULT_SIZES = (1, 2, 4, 8)
"""GPUs per pod that are counted where the question names none."""

MOST_SIZES = 8
"""Sizes in one question: each is counted on every node."""

MOST_GPUS_PER_POD = 64

WHOLE_GPUS = ("none",)
"""How a pod of a question shares GPUs unless its workload class allows more: not at all."""


class By(StrEnum):
    """What the rows of an answer stand for."""

    PRODUCT = "product"
    POOL = "pool"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class SlotQuestion:
    """Pods of some sizes that differ in nothing else. Only `asked` makes one from outside."""

    sizes: tuple[int, ...] = DEFAULT_SIZES
    """GPUs per pod, ascending."""
    workload_class: str | None = None
    floor_gbps: float | None = None
    """Lowest bus bandwidth of a pod with two or more GPUs."""
    memory_bytes: int | None = None
    """Memory that each GPU must have."""
    by: By = By.PRODUCT

    def demand(self, size: int, classes: Mapping[str, WorkloadClass]) -> Demand:
        """Return what such a pod requests. The class, which is one of `classes`, adds what it adds to every pod."""
        wishes = Wishes(
            workload_class=self.workload_class,
            min_busbw_gbps=self.floor_gbps,
            min_gpu_memory_bytes=self.memory_bytes,
            sharing=None if self.workload_class is not None else WHOLE_GPUS,
        )
        demand = classified(Demand(((size, False),), size, wishes), classes)
        assert isinstance(demand, Demand), "a class cannot exclude what the question leaves open"
        return demand


def asked(
    sizes: Sequence[int],
    workload_class: str | None,
    floor_gbps: float | None,
    memory: str | None,
    by: By,
    classes: Mapping[str, WorkloadClass],
) -> SlotQuestion | str:
    """Return the question; a str states what is out of bounds, and a remedy.

    No sizes: `DEFAULT_SIZES`. `memory`: a quantity such as 80Gi.
    """
    distinct = tuple(sorted({*sizes})) or DEFAULT_SIZES
    wrong = _wrong_size(distinct) or _wrong_class(workload_class, classes)
    if wrong is None and floor_gbps is not None and not (isfinite(floor_gbps) and 0 < floor_gbps <= MOST_GBPS):
        wrong = f"floor {floor_gbps:g} GB/s is out of bounds: give more than 0 and at most {MOST_GBPS}"
    memory_bytes = None if memory is None else _bytes_of(memory)
    wrong = wrong or (memory_bytes if isinstance(memory_bytes, str) else None)
    if wrong is not None:
        return wrong
    assert not isinstance(memory_bytes, str)
    return SlotQuestion(distinct, workload_class, floor_gbps, memory_bytes, by)


def _wrong_size(sizes: Sequence[int]) -> str | None:
    out_of_bounds = [size for size in sizes if not 1 <= size <= MOST_GPUS_PER_POD]
    if out_of_bounds:
        return f"size {out_of_bounds[0]} is out of bounds: a pod has 1 to {MOST_GPUS_PER_POD} GPUs"
    return f"{len(sizes)} sizes: at most {MOST_SIZES} are counted at once" if len(sizes) > MOST_SIZES else None


def _wrong_class(name: str | None, classes: Mapping[str, WorkloadClass]) -> str | None:
    if name is None or name in classes:
        return None
    if not classes:
        return f"class {name[:60]!r}: no workload classes are loaded: name their file with --workload-classes"
    return f"class {name[:60]!r} is none of {', '.join(sorted(classes)[:20])}: name one of these"


def _bytes_of(memory: str) -> int | str:
    """Return the bytes of a memory size such as 80Gi; a str states what is wrong with it."""
    try:
        amount = int(quantity(memory))
    except ValueError as error:
        return f"memory: {error}"
    if LEAST_MEMORY_BYTES <= amount <= MOST_BYTES:
        return amount
    return f"memory {memory} is out of bounds: give the memory of one GPU with its unit, such as 80Gi"
