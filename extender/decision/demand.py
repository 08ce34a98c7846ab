"""Pod -> what it asks for, counted as the kubelet counts; or a refusal, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from extender.decision.objects import Container, Pod
from extender.decision.reasons import Reason, Rejection
from topology.bandwidth import MESSAGE_MIXES

MIN_GPU_MEMORY = "fabricwise.dev/min-gpu-memory"
"""Annotation: memory every GPU of the pod must have, as a quantity such as `80Gi` or `80G`."""

MESSAGE_SIZE = "fabricwise.dev/message-size"
"""Annotation: which all-reduces the pod cares about: `decode`, `prefill` or `mixed`."""

MIN_BUSBW = "fabricwise.dev/min-busbw"
"""Annotation: all-reduce bus bandwidth in GB/s, of large messages, below which the pod must not land."""

WORKLOAD_CLASS = "fabricwise.dev/workload-class"
"""Annotation: the class of work the pod is."""

MOST_GPUS = (1 << 63) - 1
"""The largest quantity Kubernetes keeps exactly (int64). Absurd counts below it are just more than any node has."""

_SUFFIXES: dict[str, int | Decimal] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_QUANTITY = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)(?P<suffix>[KMGTPE]i|[mkMGTPE]|)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod asks of a node's GPUs."""

    steps: tuple[tuple[int, bool], ...]
    """(GPUs, is a finishing init container) per GPU container, in the order the kubelet serves them."""
    total: int
    """GPUs the pod holds at its peak: what the scheduler counts."""
    min_gpu_memory_bytes: int | None = None
    messages: str | None = None
    """A name of `topology.bandwidth.MESSAGE_MIXES`; None = the pod does not say."""
    min_busbw_gbps: float | None = None
    """Hard floor of the bandwidth of each container with two GPUs or more."""
    workload_class: str | None = None

    @property
    def groups(self) -> tuple[int, ...]:
        """GPUs per container that stays: links matter inside each, not between them."""
        return tuple(size for size, init in self.steps if not init)

    @property
    def needs_links(self) -> bool:
        """Whether any container holds two or more GPUs that will talk to each other."""
        return any(size > 1 for size in self.groups)


def quantity(text: Any) -> Decimal:
    """A Kubernetes quantity ("80Gi", "1e3", 4) as a number. Raises ValueError saying what is wrong with it."""
    value = str(text).strip()
    parts = _QUANTITY.match(value)
    if parts is None:
        raise ValueError(f"{value[:40]!r} is not a quantity such as 80Gi or 4")
    try:
        return Decimal(parts["number"]) * _SUFFIXES[parts["suffix"]]
    except ArithmeticError as error:
        raise ValueError(f"{value[:40]!r} is not a finite quantity") from error


def demand_of(pod: Pod, resource: str) -> Demand | Rejection:
    """What the pod asks for. A request or annotation that makes no sense is a Rejection naming it.

    A pod that asks for no GPU has `total` 0. Init containers run one after another and give their devices to whoever
    follows; sidecars (restartPolicy Always) keep theirs. Source: Kubernetes, "Resource sharing within containers" of
    the sidecar documentation; `resourcehelper.PodRequests`.
    """
    sidecars = peak = apps = 0
    steps: list[tuple[int, bool]] = []
    try:
        for container in pod.spec.init_containers or []:
            count = _gpus(container, resource)
            ends = container.restart_policy != "Always"
            sidecars += 0 if ends else count
            peak = max(peak, sidecars + (count if ends else 0))
            steps.append((count, ends))
        for container in pod.spec.containers or []:
            count = _gpus(container, resource)
            apps += count
            steps.append((count, False))
    except ValueError as error:
        return Rejection(Reason.BAD_GPU_REQUEST, str(error))
    total = max(peak, apps + sidecars)
    memory: int | None = None
    wanted = (pod.metadata.annotations or {}).get(MIN_GPU_MEMORY)
    if wanted is not None:
        try:
            amount = quantity(wanted)
            if not 0 < amount <= MOST_GPUS:
                raise ValueError(f"{wanted[:40]!r} is not an amount of memory")
            memory = int(amount)
        except ValueError as error:
            return Rejection(Reason.BAD_MIN_GPU_MEMORY, f"annotation {MIN_GPU_MEMORY}: {error}")
    messages = (pod.metadata.annotations or {}).get(MESSAGE_SIZE)
    if messages is not None and messages not in MESSAGE_MIXES:
        said = f"annotation {MESSAGE_SIZE}: {messages[:40]!r} is none of {', '.join(MESSAGE_MIXES)}"
        return Rejection(Reason.BAD_MESSAGE_SIZE, said)
    try:
        floor = _floor_gbps((pod.metadata.annotations or {}).get(MIN_BUSBW))
    except ValueError as error:
        return Rejection(Reason.BAD_MIN_BUSBW, f"annotation {MIN_BUSBW}: {error}")
    named = (pod.metadata.annotations or {}).get(WORKLOAD_CLASS) or None
    return Demand(tuple(step for step in steps if step[0]), total, memory, messages, floor, named)


def _floor_gbps(text: str | None) -> float | None:
    if text is None:
        return None
    amount = quantity(text)
    if not 0 < amount <= 1_000_000:
        raise ValueError(f"{text[:40]!r} is not a bandwidth in GB/s")
    return float(amount)


def _gpus(container: Container, resource: str) -> int:
    """GPUs of one container: its request, which defaults to its limit."""
    if container.resources is None:
        return 0
    requests, limits = container.resources.requests or {}, container.resources.limits or {}
    if resource not in requests and resource not in limits:
        return 0
    text = requests.get(resource, limits.get(resource))
    where = f"container {container.name or '?'}, {resource}"
    try:
        amount = quantity(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if amount < 0 or amount > MOST_GPUS or amount != amount.to_integral_value():
        raise ValueError(f"{where}: {str(text)[:40]!r} is not a whole number of GPUs")
    return int(amount)
