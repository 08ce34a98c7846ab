"""Recent decisions, bounded by bytes. A verb only appends references; accounting happens later, rendering when read."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extender.decision.evaluate.scorers import Ranks
from extender.decision.evaluate.verdict import Evidence, Verdict
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection

_PER_NODE_BYTES = 16  # two references
_PER_NAME_BYTES = 49  # a str beside its characters
_PER_VERDICT_BYTES = 4096  # a verdict with sixteen prospects, measured with sys.getsizeof over its parts: 3.6 KiB, its support beside
_PER_DECISION_BYTES = 1024
_INBOX = 1024
_MOST_OUTCOMES = 2048
_MOST_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer to kube-scheduler."""

    at_seconds: float
    """Unix time."""
    verb: str
    pod: str
    namespace: str
    uid: str
    spec: Pod
    """As it came, for what its command lines tell."""
    demand: Demand | Rejection
    names: Sequence[str]
    verdicts: Sequence[Verdict]
    ranks: Ranks
    body_bytes: int
    """Length of the request, which bounds that of its names."""
    took_seconds: float
    revision: int
    decided: str | None = None
    """The node that a hold was placed on."""
    stall: str | None = None
    """Why there was no answer yet."""
    state_age_seconds: float = 0.0
    """How old the state was it is based on: more than nothing while the API server cannot be reached."""

    def size_bytes(self) -> int:
        """An upper estimate of the memory it keeps alive."""
        per_node = (_PER_NODE_BYTES + _PER_NAME_BYTES) * len(self.names)
        verdicts = set(self.verdicts)
        supports = sum(len(verdict.evidence.support or b"") for verdict in verdicts)
        return _PER_DECISION_BYTES + self.body_bytes + per_node + _PER_VERDICT_BYTES * len(verdicts) + supports


class DecisionLog:
    """Newest first, oldest dropped, `limit_bytes` never exceeded once settled."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        """Readers and the settling timer live in different threads; a verb takes no lock."""
        self._inbox: deque[Decision] = deque(maxlen=_INBOX)
        self._kept: deque[tuple[int, Decision]] = deque()
        self._kept_bytes = 0
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._records: OrderedDict[str, PlacementRecord] = OrderedDict()

    def add_outcome(self, outcome: Outcome) -> None:
        """Remember what came of a prediction; the last `_MOST_OUTCOMES` are kept."""
        with self._lock:
            self._outcomes[outcome.known.key] = outcome
            while len(self._outcomes) > _MOST_OUTCOMES:
                self._outcomes.popitem(last=False)

    def add_record(self, uid: str, record: PlacementRecord) -> None:
        """Remember what a pod was decided for; the last `_MOST_RECORDS` are kept."""
        with self._lock:
            self._records.pop(uid, None)
            self._records[uid] = record
            if len(self._records) > _MOST_RECORDS:
                self._records.popitem(last=False)

    def record(self, uid: str) -> PlacementRecord | None:
        """What a pod was decided for last."""
        with self._lock:
            return self._records.get(uid)

    def outcome(self, uid: str) -> Outcome | None:
        """What a pod really got, where it is known and was predicted."""
        with self._lock:
            return self._outcomes.get(uid)

    def predicted(self, uid: str, node: str) -> tuple[Demand, Evidence] | None:
        """What a pod asked for, and what was predicted for it on a node, by the last decision that judged it there."""
        for decision in self.recent():
            if decision.uid == uid and isinstance(decision.demand, Demand):
                for name, verdict in zip(decision.names, decision.verdicts, strict=True):
                    if name == node:
                        return decision.demand, verdict.evidence
        return None

    def add(self, decision: Decision) -> None:
        """Remember a decision; on the verbs' path, so no more than an append."""
        self._inbox.append(decision)

    @property
    def unsettled(self) -> int:
        """Decisions that wait for `settle`."""
        return len(self._inbox)

    def settle(self) -> None:
        """Account for what came in, and drop the oldest until all fits."""
        with self._lock:
            while self._inbox:
                decision = self._inbox.popleft()
                size = decision.size_bytes()
                self._kept.append((size, decision))
                self._kept_bytes += size
            while self._kept and self._kept_bytes > self._limit_bytes:
                size, _ = self._kept.popleft()
                self._kept_bytes -= size

    def recent(self) -> Iterator[Decision]:
        """Newest first."""
        self.settle()
        with self._lock:
            kept = tuple(self._kept)
        return (decision for _, decision in reversed(kept))
