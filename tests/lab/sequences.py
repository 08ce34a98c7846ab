"""Random sequences of pods in the lab, and what came of each: the devices by the kubelet's checkpoint beside those predicted."""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from tests.lab.lab import Lab, container, pod
from topology.devices.steering import DEFAULT_MESSAGES
from topology.machine.hardware import mask_of, positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.shared_tables import table_for

_ADMITTED_SECONDS = 5.0
"""A pod that is not admitted by then was refused: kube-scheduler keeps it pending."""

_REFUSED_SECONDS = 1.5
"""The same where kube-scheduler calls it unschedulable: a pod that finds room is bound within half a second."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Containers of a pod: GPUs of finishing init containers, then of the main ones."""

    mains: tuple[int, ...]
    inits: tuple[int, ...] = ()

    @property
    def peak(self) -> int:
        """GPUs it holds at most."""
        return max([sum(self.mains), *self.inits])


SHAPES = [Shape((size,)) for size in (1, 1, 2, 2, 3, 4)] + [
    Shape((1, 2)),
    Shape((2, 2)),
    Shape((2,), (2,)),
    Shape((2,), (1,)),
    Shape((1, 1), (2,)),
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pod. `containers`: GPUs per main container; `predicted` the same as recorded in its decision, None where that leaves open
    which container gets which: the kubelet divides what an init container had at random, and asks nothing."""

    name: str
    shape: Shape
    phase: str | None
    message: str | None
    containers: dict[str, list[int]]
    predicted: dict[str, list[int]] | None
    predicted_gpus: list[int] | None
    """All GPUs of the likeliest predicted set; None where the pod was not placed."""
    gbps: float | None
    """Of large messages, of the slowest container."""
    mixed_gbps: float | None
    """The same over the message mix that the steerer weighs."""
    whole_pairs: int
    possible_pairs: int
    seconds_to_bind: float | None

    @property
    def is_as_predicted(self) -> bool:
        """Whether the pod, and as far as predicted every container, has just the GPUs that were predicted."""
        if self.predicted is not None:
            return self.containers == self.predicted
        held = sorted(gpu for gpus in self.containers.values() for gpu in gpus)
        return self.predicted_gpus is not None and set(held) <= set(self.predicted_gpus)

    @property
    def is_placed(self) -> bool:
        """Whether the extender found room for it."""
        return self.predicted_gpus is not None

    def data(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def allocate(lab: Lab, count: int, seed: int = 1, shapes: list[Shape] | None = None) -> list[Outcome]:
    """Create `count` pods one after another, deleting others at random where there is no room. The sequence depends on the seed alone."""
    chance, table = random.Random(seed), table_for(lab.node.machine)
    live: dict[str, tuple[int, str]] = {}
    outcomes = []
    for number in range(count):
        shape, name = chance.choice(shapes or SHAPES), f"pod-{seed}-{number}"
        leaving: list[str] = []
        free = len(lab.node.machine.gpus) - sum(size for size, _ in live.values())
        while live and (free < shape.peak or (len(live) > 3 and not leaving)):
            victim = chance.choice(sorted(live))
            leaving.append(victim)
            free += live.pop(victim)[0]
        lab.delete(*leaving)
        inits = [container(f"init-{place}", size, 50) for place, size in enumerate(shape.inits)]
        started = time.time()
        uid = lab.create(pod(name, [container(f"main-{place}", size) for place, size in enumerate(shape.mains)], inits))
        outcome = _outcome(lab, table, name, uid, shape, started, {key for _, key in live.values()})
        outcomes.append(outcome)
        if outcome.phase == "Failed" or not outcome.is_placed:
            lab.delete(name)
        else:
            live[name] = shape.peak, uid
    lab.delete(*live)
    return outcomes


def _outcome(lab: Lab, table: PlacementTable, name: str, uid: str, shape: Shape, started: float, others: set[str]) -> Outcome:
    names = [f"main-{place}" for place in range(len(shape.mains))]

    def is_admitted(found: dict[str, Any]) -> bool:
        """The kubelet allocates the devices of all containers when it admits a pod, before the first one starts."""
        return found["status"].get("phase") == "Failed" or set(names) <= set(lab.node.held().get(uid, {})) or is_refused(found)

    def is_refused(found: dict[str, Any]) -> bool:
        conditions = found["status"].get("conditions") or ()
        return time.time() - started > _REFUSED_SECONDS and any(one.get("reason") == "Unschedulable" for one in conditions)

    seen = lab.wait_pod(name, is_admitted, _ADMITTED_SECONDS)
    held = lab.node.held()
    containers = {key: sorted(held.get(uid, {}).get(key, ())) for key in names}
    found = lab.decision(uid)
    row, verdict = found if found is not None else ({}, {})
    speeds = [speed for gpus in containers.values() if (speed := table.busbw_gbps(mask_of(gpus))) is not None]
    mixed = [speed for gpus in containers.values() if (speed := table.effective_gbps(mask_of(gpus), DEFAULT_MESSAGES)) is not None]
    taken = mask_of(sorted({gpu for key in {*others, uid} for gpus in held.get(key, {}).values() for gpu in gpus}))
    whole, possible = pairs_kept(table, ((1 << len(lab.node.machine.gpus)) - 1) & ~taken)
    decided = _decided(seen)
    likeliest = verdict.get("predicted")
    return Outcome(
        name,
        shape,
        seen.get("status", {}).get("phase"),
        seen.get("status", {}).get("message"),
        containers,
        dict(zip(names, decided, strict=True)) if decided is not None and len(decided) == len(names) else None,
        sorted(likeliest[0]["gpus"]) if likeliest else None,
        min(speeds, default=None),
        min(mixed, default=None),
        whole,
        possible,
        row["at_seconds"] - started if row else None,
    )


def _decided(seen: dict[str, Any]) -> list[list[int]] | None:
    """The sets per container of the recorded decision."""
    text = seen.get("metadata", {}).get("annotations", {}).get("fabricwise.dev/decision")
    decided: list[list[int]] | None = json.loads(text).get("containers") if text else None
    return decided


def pairs_kept(table: PlacementTable, free: int) -> tuple[int, int]:
    """Disjoint pairs among the free GPUs whose bandwidth is the machine's best, and how many could be among that many GPUs."""
    everything = (1 << table.size) - 1
    best = table.extremes(everything, 2)
    limit = (best[0].busbw_gbps or 0.0) if best else 0.0
    pairs = [pair for pair in combinations(positions_of(free), 2) if (table.busbw_gbps(mask_of(pair)) or 0.0) >= limit]
    return _matching(pairs), free.bit_count() // 2


def _matching(pairs: list[tuple[int, int]]) -> int:
    if not pairs:
        return 0
    (a, b), rest = pairs[0], pairs[1:]
    return max(_matching(rest), 1 + _matching([pair for pair in rest if not {a, b} & set(pair)]))


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Shares and means over a sequence."""
    speeds = [one.gbps for one in outcomes if one.gbps is not None]
    mixed = [one.mixed_gbps for one in outcomes if one.mixed_gbps is not None]
    placed = [one for one in outcomes if one.is_placed]
    ran = [one for one in placed if one.phase != "Failed"]
    return {
        "pods": len(outcomes),
        "refused": len(outcomes) - len(placed),
        "failed": len(placed) - len(ran),
        "as_predicted": sum(one.is_as_predicted for one in ran),
        "mean_gbps": round(sum(speeds) / len(speeds), 2) if speeds else None,
        "mean_mixed_gbps": round(sum(mixed) / len(mixed), 2) if mixed else None,
        "pairs_kept": round(sum(one.whole_pairs for one in outcomes) / max(1, sum(one.possible_pairs for one in outcomes)), 3),
    }
