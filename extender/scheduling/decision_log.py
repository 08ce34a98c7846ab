"""Recent decisions, bounded by bytes. A verb only appends references; sizes are computed later, answers when they are read."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.scorers import Ranks
from extender.decision.evaluate.verdict import Evidence
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection

_PER_NODE_BYTES = 40  # two references, a row, a hash, a code, a score and what arrays add
_PER_NAME_BYTES = 49  # a str beside its characters
_PER_VERDICT_BYTES = 5120  # one with 16 prospects has 3.6 KiB, measured with sys.getsizeof over its parts; its support 1 KiB at most
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
    """The pod of the request, for what is inferred from its command lines."""
    demand: Demand | Rejection
    names: NodeNames
    verdicts: NodeVerdicts
    ranks: Ranks
    body_bytes: int
    """Length of the request, which bounds that of its names."""
    took_seconds: float
    revision: int
    decided: int | None = None
    """The position in `names` of the node that the pod is assumed on."""
    stall: str | None = None
    """Why there was no answer yet."""
    state_age_seconds: float = 0.0
    """Age of the state that the decision is based on: above zero while the API server cannot be reached."""

    @property
    def decided_node(self) -> str | None:
        """The name of the node that the pod is assumed on; None where no node is decided."""
        return None if self.decided is None else self.names[self.decided]

    def size_bytes(self) -> int:
        """Return an upper estimate of the memory that the decision keeps alive."""
        per_node = (_PER_NODE_BYTES + _PER_NAME_BYTES) * len(self.names)
        return _PER_DECISION_BYTES + self.body_bytes + per_node + _PER_VERDICT_BYTES * len(set(self.verdicts))


class DecisionLog:
    """The newest decisions that fit into `limit_bytes`, with their placement records and outcomes. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        """Held for moments only, because verbs wait for it."""
        self._settling = threading.Lock()
        """Held while sizes are computed, by one thread at a time."""
        self._inbox: deque[Decision] = deque(maxlen=_INBOX)
        self._kept: deque[tuple[int, Decision]] = deque()
        self._kept_bytes = 0
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._records: OrderedDict[str, PlacementRecord] = OrderedDict()

    def add_outcome(self, outcome: Outcome) -> None:
        """Keep the outcome of a prediction; the last `_MOST_OUTCOMES` are kept."""
        with self._lock:
            self._outcomes[outcome.known.key] = outcome
            while len(self._outcomes) > _MOST_OUTCOMES:
                self._outcomes.popitem(last=False)

    def add_record(self, uid: str, record: PlacementRecord) -> None:
        """Keep the placement record of a pod; the last `_MOST_RECORDS` are kept."""
        with self._lock:
            self._records.pop(uid, None)
            self._records[uid] = record
            if len(self._records) > _MOST_RECORDS:
                self._records.popitem(last=False)

    def record(self, uid: str) -> PlacementRecord | None:
        """Return the placement record of the last decision about a pod."""
        with self._lock:
            return self._records.get(uid)

    def outcome(self, uid: str) -> Outcome | None:
        """Return which GPUs a pod got; None where that is not known or was not predicted."""
        with self._lock:
            return self._outcomes.get(uid)

    def predicted(self, uid: str, node: str) -> tuple[Demand, Evidence] | None:
        """Return the pod's demand and its evidence on a node, by the last decision that evaluated that node; None where there is none."""
        for decision in self.recent():
            if decision.uid == uid and isinstance(decision.demand, Demand) and node in decision.names.texts:
                return decision.demand, decision.verdicts[decision.names.texts.index(node)].evidence
        return None

    def add(self, decision: Decision) -> None:
        """Add a decision. It only appends, because verbs call it."""
        self._inbox.append(decision)

    @property
    def unsettled(self) -> int:
        """Number of decisions that wait for `settle`."""
        return len(self._inbox)

    def settle(self) -> None:
        """Compute the sizes of new decisions, and drop the oldest decisions until all fit."""
        with self._settling:
            while self._inbox:
                decision = self._inbox.popleft()
                size = decision.size_bytes()
                with self._lock:
                    self._kept.append((size, decision))
                    self._kept_bytes += size
                    while self._kept and self._kept_bytes > self._limit_bytes:
                        size, _ = self._kept.popleft()
                        self._kept_bytes -= size

    def recent(self) -> Iterator[Decision]:
        """Return the decisions, the newest first."""
        self.settle()
        with self._lock:
            kept = tuple(self._kept)
        return (decision for _, decision in reversed(kept))
