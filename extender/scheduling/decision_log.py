"""Recent decisions, bounded by bytes. A verb only appends references; sizes are computed later, answers when they are read."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import Literal

import numpy as np

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.scorers import TOP_SCORE, Ranks
from extender.decision.evaluate.verdict import Evidence
from extender.decision.report.placement_record import PlacementRecord, placement_record_of
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.request.kubernetes_objects import Node, Pod
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from extender.decision.state.snapshot import Snapshot

_PER_NODE_BYTES = 40  # two references, a row, a hash, a code, a score and what arrays add
_PER_NAME_BYTES = 49  # a str beside its characters
_PER_VERDICT_BYTES = 5120  # one with 16 prospects has 3.6 KiB, measured with sys.getsizeof over its parts; its support 1 KiB at most
_PER_DECISION_BYTES = 1024
_PER_WRITE_BYTES = 5632
"""What an old state keeps alive for each object that has changed since: a view with its pods, a status or telemetry, and the nodes of the
persistent maps. Measured on nodes with eight GPUs: 3.3 KiB for a binding, 3.9 for a status, 5.1 for telemetry; a test repeats it."""
_PER_ASSUMED_POD_BYTES = 128
"""An entry of the mapping of assumed pods, of which every moment may have its own."""
_PER_MOMENT_BYTES = 512
_INBOX = 1024
_MOST_OUTCOMES = 2048
_MOST_RECORDS = 4096


Result = Literal["decided", "feasible", "refused", "invalid", "waiting"]
"""decided: for one node; feasible: several nodes are, and kube-scheduler asks for their scores; refused: no node is feasible; invalid: the
pod's request is; waiting: there was no answer yet, and kube-scheduler tries the pod again."""


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
    id: str = ""
    """Identifies the decision; see `DecisionLog.next_id`."""
    moment: Moment | None = None
    """What it was decided from; None where it is not kept any more: then the decision cannot be replayed. It may be earlier than that of
    the decision before, because prioritize may use the moment of its filter call."""
    mix: Mapping[int, float] | None = None
    """The mix of sizes that it was evaluated with; None: it changed during the evaluation."""
    sent: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    """Nodes of the request that the watch did not know."""

    @property
    def decided_node(self) -> str | None:
        """The name of the node that the pod is assumed on; None where no node is decided."""
        return None if self.decided is None else self.names[self.decided]

    @property
    def scores(self) -> Sequence[int] | None:
        """The score of each name as prioritize answers it; None for filter."""
        if self.verb != "prioritize":
            return None
        scores: list[int] = np.minimum(self.ranks.scores, TOP_SCORE - 1).tolist()
        if self.decided is not None:
            scores[self.decided] = TOP_SCORE
        return scores

    @property
    def placement(self) -> str | None:
        """The id of the placement record; None where no node is decided."""
        node = self.decided_node
        if node is None or self.decided is None:
            return None
        return placement_record_of(self.uid, node, self.verdicts[self.decided].evidence).id

    @property
    def result(self) -> Result:
        """What was decided."""
        if self.stall is not None:
            return "waiting"
        if isinstance(self.demand, Rejection):
            return "invalid"
        if self.decided is not None:
            return "decided"
        return "feasible" if self.verdicts.feasible.any() else "refused"

    def size_bytes(self) -> int:
        """Return an upper estimate of the memory that the decision keeps alive, without its moment."""
        per_node = (_PER_NODE_BYTES + _PER_NAME_BYTES) * len(self.names)
        return _PER_DECISION_BYTES + self.body_bytes + per_node + _PER_VERDICT_BYTES * len(set(self.verdicts))


def moment_bytes(before: Snapshot | None, after: Moment, previous: Moment | None = None) -> int:
    """Return an estimate of the memory that keeping the state `before` costs once the state of `after` is kept too.

    Two states share all that is equal in both. `previous`: the moment of `before`, which may have the same assumed pods.
    """
    snapshot, size = after.snapshot, _PER_MOMENT_BYTES
    if before is not None and before is not snapshot:
        size += _PER_WRITE_BYTES * differing_objects(before, snapshot)
    if previous is None or previous.assumed_pods is not after.assumed_pods:
        size += _PER_ASSUMED_POD_BYTES * len(after.assumed_pods.by_pod)
    return size


def differing_objects(one: Snapshot, other: Snapshot) -> int:
    """Return the most objects by which two states can differ."""
    objects = max(3 * len(each.nodes) + len(each.pods) + len(each.pending) for each in (one, other))
    return min(abs(other.writes - one.writes), objects)


@dataclass(slots=True)
class _Kept:
    """A decision that is kept, and the memory that it takes."""

    decision: Decision
    size_bytes: int
    moment_bytes: int = 0
    """What its moment keeps alive beside those of its neighbours."""


class DecisionLog:
    """The newest decisions that fit into `limit_bytes`, with their placement records and outcomes. Thread-safe.

    The moments that decisions were made at keep old states alive. They have a budget of their own: where it is exceeded, the oldest
    decisions lose their moment, and are listed all the same.
    """

    def __init__(self, limit_bytes: int, moments_limit_bytes: int = 16 << 20) -> None:
        self._limit_bytes, self._moments_limit_bytes = limit_bytes, moments_limit_bytes
        self._lock = threading.Lock()
        """Held for moments only, because verbs wait for it."""
        self._settling = threading.Lock()
        """Held while sizes are computed, by one thread at a time."""
        self._inbox: deque[Decision] = deque(maxlen=_INBOX)
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._with_moment: deque[_Kept] = deque()
        """Those of `_kept` that have a moment: the newest ones."""
        self._moments_bytes = 0
        self._last_moment: Moment | None = None
        """That of the newest of them."""
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._records: OrderedDict[str, PlacementRecord] = OrderedDict()
        self._numbers = count()
        self.epoch = secrets.token_hex(3)
        """Differs for every start of the process."""

    def next_id(self) -> str:
        """Return the id of the next decision: the epoch and a number that grows by one."""
        return f"{self.epoch}-{next(self._numbers)}"

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
        return predicted_on(self.recent(), uid, node)

    def add(self, decision: Decision) -> None:
        """Add a decision. It only appends, because verbs call it."""
        self._inbox.append(decision)

    @property
    def unsettled(self) -> int:
        """Number of decisions that wait for `settle`."""
        return len(self._inbox)

    def settle(self) -> None:
        """Compute the sizes of new decisions, and drop the oldest moments and decisions until all fit."""
        with self._settling:
            while self._inbox:
                decision = self._inbox.popleft()
                entry = _Kept(decision, decision.size_bytes())
                with self._lock:
                    self._kept.append(entry)
                    self._kept_bytes += entry.size_bytes
                    self._keep_moment(entry)
                    self._drop_moments(0)
                    while self._kept and self._kept_bytes > self._limit_bytes:
                        self._drop_oldest()

    def _keep_moment(self, entry: _Kept) -> None:
        """Account for the moment of a decision. The caller holds the lock."""
        moment, last = entry.decision.moment, self._last_moment
        if moment is None:
            return
        entry.moment_bytes = moment_bytes(last.snapshot if last is not None else None, moment, last)
        self._with_moment.append(entry)
        self._moments_bytes += entry.moment_bytes
        self._last_moment = moment

    def _drop_moments(self, further_bytes: int) -> None:
        """Drop the oldest moments until they fit beside further memory. The caller holds the lock."""
        while self._with_moment and self._moments_bytes + further_bytes > self._moments_limit_bytes:
            entry = self._with_moment.popleft()
            self._moments_bytes -= entry.moment_bytes
            entry.decision = replace(entry.decision, moment=None)
        if not self._with_moment:
            self._last_moment = None

    def _drop_oldest(self) -> None:
        """Drop the oldest decision. The caller holds the lock."""
        entry = self._kept.popleft()
        self._kept_bytes -= entry.size_bytes
        if self._with_moment and self._with_moment[0] is entry:
            self._with_moment.popleft()
            self._moments_bytes -= entry.moment_bytes
        if not self._with_moment:
            self._last_moment = None

    def follow(self, snapshot: Snapshot) -> None:
        """Drop moments that keep too much alive now that `snapshot` is the newest state: without decisions the last one ages too."""
        with self._lock:
            if self._last_moment is not None:
                self._drop_moments(_PER_WRITE_BYTES * differing_objects(self._last_moment.snapshot, snapshot))

    @property
    def replayable(self) -> int:
        """Number of decisions that have a moment."""
        with self._lock:
            return len(self._with_moment)

    def recent(self) -> Iterator[Decision]:
        """Return the decisions, the newest first."""
        self.settle()
        with self._lock:
            kept = tuple(self._kept)
        return (entry.decision for entry in reversed(kept))


def predicted_on(decisions: Iterable[Decision], uid: str, node: str) -> tuple[Demand, Evidence] | None:
    """Return a pod's demand and its evidence on a node, by the first of the decisions that evaluated that node; None where none did."""
    for decision in decisions:
        if decision.uid == uid and isinstance(decision.demand, Demand) and node in decision.names.texts:
            return decision.demand, decision.verdicts[decision.names.texts.index(node)].evidence
    return None
