"""What a function that looks for remedies works with: the case of one pending pod, and how a remedy is checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from extender.decision.disruption.disruption_facts import NOTHING_READ, DisruptionFacts
from extender.decision.disruption.evictions import Evictee, GroupRestart
from extender.decision.pace import Pace
from extender.decision.request.annotations import LINKS
from extender.decision.request.kubernetes_objects import Taint
from extender.decision.why.pod_question import Evaluated, Question, Refusal

WAIT, CORRECT, ON_NODE, EVICT, LOWER, EVICT_MORE, EVICT_FOR_GOOD, HARDWARE, ADD_NODE, LOOK = range(10)
"""Costs of remedies, cheapest first: nothing to do; a mistake in the manifest; a change on a node that costs no work; one pod loses its
work; the pod gets less than it asks for; several pods lose their work, or the pod gets less in several ways; a pod ends that nothing
recreates; hardware is repaired; hardware is bought; unknown."""

LookUp = Callable[[Sequence[Evictee]], DisruptionFacts]
"""Returns what is known of pods that could be evicted: owners, disruption budgets, and the groups that restart with them. May block."""


def nothing_looked_up(_pods: Sequence[Evictee]) -> DisruptionFacts:
    """Return that nothing is known."""
    return NOTHING_READ


@dataclass(frozen=True, slots=True)
class Case:
    """A pending pod and its evaluation on all nodes."""

    question: Question
    evaluated: Evaluated
    pace: Pace
    look_up: LookUp = nothing_looked_up

    def refused_by(self, is_cause: Callable[[Refusal], bool]) -> list[str]:
        """Return the nodes of which a refusal is such a cause."""
        return [name for name, refusals in self.evaluated.refusals.items() if any(map(is_cause, refusals))]

    def refused_only_by(self, is_cause: Callable[[Refusal], bool]) -> list[str]:
        """Return the nodes that are refused, and of which every refusal is such a cause."""
        return [name for name, refusals in self.evaluated.refusals.items() if refusals and all(map(is_cause, refusals))]

    def first_cause(self, name: str, is_cause: Callable[[Refusal], bool]) -> str:
        """Return the reason of the node's first refusal that is such a cause."""
        return next(refusal.reason for refusal in self.evaluated.refusals[name] if is_cause(refusal))


Look = Callable[[Case], Iterator["Found"]]
"""Yields what would help; checks `Case.pace` before each evaluation."""


@dataclass(frozen=True, slots=True)
class Found:
    """A remedy that a function has found, before it becomes a part of the answer; the fields are those of `why_types.Remedy`."""

    kind: str
    cost: int
    cause: str
    text: str
    fits: bool = False
    nodes: int = 0
    node: str | None = None
    bandwidth_gbps: float | None = None
    annotations: tuple[tuple[str, str | None], ...] = ()
    evict: tuple[str, ...] = ()
    requests: tuple[tuple[str, str], ...] = ()
    taints: tuple[str, ...] = ()
    platform: str | None = None
    harms: tuple[str, ...] = ()
    restarts: tuple[GroupRestart, ...] = ()
    not_checked: tuple[str, ...] = ()
    """What may prevent the remedy and was not looked at."""
    unread: tuple[str, ...] = ()
    """What could not be read for it, as sentences."""


def fitting(changed: Question | None, names: Collection[str]) -> Evaluated | None:
    """Return the evaluation of a changed question on some nodes if the pod fits on one of them; else None."""
    if changed is None or not names:
        return None
    evaluated = changed.evaluated(names)
    return evaluated if evaluated.best is not None else None


def speed_text(gbps: float | None) -> str:
    """Return ` and gives 208 GB/s`; empty where the bandwidth has no meaning or is unknown."""
    return "" if gbps is None else f" and gives {number(gbps)} GB/s"


def number(value: float) -> str:
    """Return a number with at most one decimal."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")


def gpus_text(indices: Sequence[int]) -> str:
    """Return GPU indices as text: {0,1,2,3}."""
    return "{" + ",".join(map(str, indices)) + "}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and the number of the others: `a, b, c and 2 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def count_text(count: int, thing: str) -> str:
    """Return the count with its noun: `1 GPU`, `8 GPUs`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def memory_text(amount_bytes: int) -> str:
    """Return an amount of memory in GiB."""
    return f"{amount_bytes / 2**30:.4g} GiB"


def taint_text(taint: Taint) -> str:
    """Return a taint as kubectl writes it: key=value:effect."""
    return f"{taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}"


LINK_TEXTS = dict(
    zip(
        LINKS,
        (
            "over NVLink",
            "through one PCIe switch",
            "through several PCIe switches",
            "through the CPU's PCIe host bridge",
            "between PCIe host bridges of one socket",
            "across the socket",
        ),
        strict=True,
    )
)
"""Link class -> where its traffic goes, for people."""
