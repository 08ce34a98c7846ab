"""Scheduling cycles as kube-scheduler runs them: filter over the feasible nodes, then prioritize over exactly the nodes that passed.

Each cycle is of a new pod, which the watch shows as pending before and as deleted after. The nodes are a new random selection in a new
order, because kube-scheduler's lists do not repeat either: answers that are kept by request body gain nothing.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tests.bench.clusters import LIST_VERSION, pending_pod
from tests.bench.processes.api_process import event
from tests.bench.processes.servers import BenchmarkError, Connection, Server, wait_until_watched

SIZES = (1, 2, 4, 8)
"""GPUs of the pods, in turn."""
IN_FLIGHT = 10
"""Pods that are added, and deleted, together: about as many wait for their binding at a time on a busy cluster."""
MOST_SECONDS = 30.0
"""Time until an answer that asks to try again counts as a failure."""
TRY_AGAIN = "try again"
"""Part of an answer that another attempt follows at once; any other error ends the measurement."""
WAITS_FOR_BINDINGS = "stand in the way"
"""Part of the answer that no named node is left beside pods in flight. It is complete: an attempt at once would give the same."""


class FilterResult(msgspec.Struct, rename="pascal"):
    """The fields of ExtenderFilterResult that are read."""

    node_names: list[str] | None = None
    error: str = ""


_RESULT = msgspec.json.Decoder(FilterResult)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Extender:
    """An extender under measurement: a connection, and the paths of its verbs."""

    name: str
    connection: Connection
    filter_path: str = "/scheduler/filter"
    prioritize_path: str | None = "/scheduler/prioritize"
    """None: it has no such verb."""
    is_rival: bool = False
    """Whether its answers are timed only, because their meaning is its own."""


@dataclass
class Timings:
    """Seconds per request of one extender."""

    filter: list[float] = field(default_factory=list)
    prioritize: list[float] = field(default_factory=list)
    attempts: int = 0
    """Requests to filter, with those that were answered by "try again"."""

    def add(self, other: Timings) -> None:
        """Add those of another run."""
        self.filter += other.filter
        self.prioritize += other.prioritize
        self.attempts += other.attempts


def body(pod: bytes, names: Sequence[str]) -> bytes:
    """Return ExtenderArgs with nodeCacheCapable."""
    return b'{"Pod":%s,"Nodes":null,"NodeNames":%s}' % (pod, msgspec.json.encode(names))


def filtered(extender: Extender, content: bytes) -> tuple[list[str], float, int]:
    """Return (nodes that passed, seconds until the complete answer, attempts); "try again" is answered by an attempt at once.

    Raises BenchmarkError for another error, and where the answer is not complete in time.
    """
    spent, attempts = 0.0, 0
    while spent < MOST_SECONDS:
        answer, took = extender.connection.ask("POST", extender.filter_path, content)
        spent, attempts = spent + took, attempts + 1
        if extender.is_rival:
            return [], spent, attempts
        result = _RESULT.decode(answer)
        if not result.error or WAITS_FOR_BINDINGS in result.error:
            return result.node_names or [], spent, attempts
        if TRY_AGAIN not in result.error:
            break
    raise BenchmarkError(f"{extender.name}: filter is not complete after {attempts} attempts: {result.error}")


class Cycles:
    """Runs cycles on several extenders in turn, and keeps their timings."""

    def __init__(self, api: Server | None, nodes: Sequence[str], extenders: Sequence[Extender], seed: int = 1) -> None:
        """The first extender decides which nodes pass. `api`: shows the pods to it; None: no extender watches."""
        self._api, self._nodes, self.extenders, self._chance = api, nodes, extenders, random.Random(seed)
        self._pods: list[bytes] = []
        if api is not None:
            wait_until_watched(api)

    def run(self, names: int, rounds: int, pause_seconds: float = 0.0) -> dict[str, Timings]:
        """Return extender name -> timings of `rounds` cycles over `names` nodes."""
        timings = {extender.name: Timings() for extender in self.extenders}
        for number in range(rounds):
            self.cycle(self._next_pod(), names, timings, number)
            time.sleep(pause_seconds)
        return timings

    def run_for(self, names: int, seconds: float) -> dict[str, Timings]:
        """Return extender name -> timings of cycles over `names` nodes during this time."""
        timings = {extender.name: Timings() for extender in self.extenders}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.cycle(self._next_pod(), names, timings, 0)
        return timings

    def warm(self, names: int) -> None:
        """Run one cycle of each size over all nodes that a measurement may use, so that it measures no first sight."""
        for _ in SIZES:
            self.cycle(self._next_pod(), names, {extender.name: Timings() for extender in self.extenders}, 0)

    def cycle(self, pod: bytes, names: int, timings: dict[str, Timings], number: int) -> None:
        """Run one cycle; the extenders take turns in being asked first."""
        chosen = self._chance.sample(self._nodes, names)
        content = body(pod, chosen)
        turn = number % len(self.extenders)
        order = (*self.extenders[turn:], *self.extenders[:turn])
        passed: list[str] = []
        for extender in order:
            names_passed, seconds, attempts = filtered(extender, content)
            timings[extender.name].filter.append(seconds)
            timings[extender.name].attempts += attempts
            if extender is self.extenders[0]:
                passed = names_passed
        content = body(pod, passed)
        for extender in order:
            if extender.prioritize_path is not None and passed:
                timings[extender.name].prioritize.append(extender.connection.ask("POST", extender.prioritize_path, content)[1])

    def _next_pod(self) -> bytes:
        if not self._pods:
            numbers = [next(_numbers) for _ in range(IN_FLIGHT)]
            pods = [pending_pod(f"cycle-{n:07d}", SIZES[n % len(SIZES)], LIST_VERSION + 1 + 2 * n) for n in numbers]
            self.close()
            if self._api is not None:
                self._api.post("/bench/events", b"".join(event("ADDED", pod) for pod in pods))
            self._pods, self._shown = pods, numbers
        return self._pods.pop()

    _shown: Sequence[int] = ()

    def close(self) -> None:
        """Delete the pods that were shown."""
        if self._api is not None and self._shown:
            gone = (pending_pod(f"cycle-{n:07d}", SIZES[n % len(SIZES)], LIST_VERSION + 2 + 2 * n) for n in self._shown)
            self._api.post("/bench/events", b"".join(event("DELETED", pod) for pod in gone))
        self._shown = ()
