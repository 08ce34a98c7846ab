"""The typed answer about slots: rows of sums, and the sentence that a person reads first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec


class Lost(msgspec.Struct, frozen=True):
    """Slots that the idle GPUs do not make, by cause. A slot that two causes prevent counts for the later one in this order."""

    cordoned_or_not_ready: int = 0
    unhealthy_gpus: int = 0
    """Unhealthy, or fenced because of errors."""
    unknown_use: int = 0
    """Idle by Kubernetes' count, but in use: memory held by unknown processes, or devices of pods that the API server does not show. Also
    GPUs without telemetry where it is required."""
    fragmentation_in_nodes: int = 0
    """The links would do, but the idle GPUs of the node are the wrong ones."""
    links: int = 0
    """The links of such a machine do not reach the bandwidth floor or the link class, whatever is free on it."""
    fragmentation_over_nodes: int = 0
    """Idle GPUs are left over on several nodes."""


class SizeSlots(msgspec.Struct, frozen=True):
    """Pods of one size: `now` + the sum of `lost` = `ideal`, and `ideal` + `held_by_pods` = what all GPUs could make."""

    size: int
    """GPUs per pod."""
    now: int
    """Pods that fit now."""
    ideal: int
    """Pods that the idle GPUs could make if only their number per product counted."""
    held_by_pods: int
    lost: Lost


class SlotRow(msgspec.Struct, frozen=True):
    """A product, pool or node, or all nodes together."""

    name: str
    nodes: int
    gpus: int
    """GPUs of these nodes, healthy or not."""
    idle_gpus: int
    """Those that no known pod holds."""
    sizes: tuple[SizeSlots, ...]


class NotCounted(msgspec.Struct, frozen=True):
    """Nodes that are not for such pods."""

    reason: str
    nodes: int


class SlotsAnswer(msgspec.Struct, frozen=True):
    """How many more pods fit now, and what the missing ones are lost to."""

    summary: str
    """One sentence."""
    by: str
    workload_class: str | None
    floor_gbps: float | None
    memory_bytes: int | None
    total: SlotRow
    rows: tuple[SlotRow, ...]
    rows_left_out: int
    not_counted: tuple[NotCounted, ...]
    not_checked: tuple[str, ...]
    complete: bool
    """Whether all nodes were counted before the time was over."""
    nodes_counted: int
    nodes_known: int
    cluster: str | None = None
    """The name of the cluster, for people."""
    unread: tuple[str, ...] = ()
    """What could not be read, with the consequence for the answer."""


OTHER = "other"
"""The name of the row that stands for several products."""


def most_common(rows: Iterable[SlotRow], most: int) -> tuple[SlotRow, ...]:
    """Return the rows with the most GPUs, and one row for all others where there are more than `most`."""
    ordered = sorted(rows, key=lambda row: (-row.gpus, row.name))
    kept, others = ordered[:most], ordered[most:]
    return (*kept, _together(others)) if others else tuple(kept)


def _together(rows: list[SlotRow]) -> SlotRow:
    sizes = tuple(added(each[0].size, each) for each in zip(*(row.sizes for row in rows), strict=True))
    nodes, gpus, idle = (sum(getattr(row, figure) for row in rows) for figure in ("nodes", "gpus", "idle_gpus"))
    return SlotRow(OTHER, nodes, gpus, idle, sizes)


def added(size: int, parts: Sequence[SizeSlots]) -> SizeSlots:
    """Return the slots of one size, added up."""
    lost = Lost(*(sum(getattr(each.lost, cause) for each in parts) for cause in Lost.__struct_fields__))
    now, ideal, held = (sum(getattr(each, figure) for each in parts) for figure in ("now", "ideal", "held_by_pods"))
    return SizeSlots(size, now, ideal, held, lost)


CAUSES: Mapping[str, str] = {
    "cordoned_or_not_ready": "nodes that are cordoned or not ready",
    "unhealthy_gpus": "unhealthy GPUs",
    "unknown_use": "GPUs in use by what Kubernetes does not show",
    "fragmentation_in_nodes": "fragmentation in nodes",
    "links": "links that are too slow",
    "fragmentation_over_nodes": "fragmentation over nodes",
}
"""Field of `Lost` -> the cause as text."""


def summary(row: SlotRow) -> str:
    """Return one sentence: what fits, and what the missing slots of the largest size are lost to."""
    if not row.gpus:
        return "No node with GPUs is for such pods."
    largest = row.sizes[-1]
    if len(row.sizes) == 1:
        fits = f"{largest.now} more pod{'s' if largest.now != 1 else ''} of {_gpus(largest.size)} fit{'' if largest.now != 1 else 's'}"
    else:
        parts = [f"{each.now} of {_gpus(each.size)}" for each in row.sizes]
        fits = f"This many more pods fit: {', '.join(parts[:-1])} or {parts[-1]}"
    return f"{fits}; {_lost_text(largest, len(row.sizes) > 1)}"


def _lost_text(slots: SizeSlots, names_size: bool) -> str:
    of_size = f" of {_gpus(slots.size)}" if names_size else ""
    lost = [(getattr(slots.lost, cause), text) for cause, text in CAUSES.items() if getattr(slots.lost, cause)]
    total = sum(count for count, _ in lost)
    if not slots.ideal and not slots.held_by_pods:
        return f"no node for such pods has {_gpus(slots.size)}."
    if not lost:
        return f"none{of_size} is lost."
    causes = ", ".join(f"{count} to {text}" for count, text in sorted(lost, key=lambda each: -each[0]))
    return f"{total}{of_size} {'is' if total == 1 else 'are'} lost: {causes}."


def _gpus(size: int) -> str:
    return f"{size} GPU{'s' if size > 1 else ''}"
