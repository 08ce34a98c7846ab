"""The answer of `why`: one shape for the command and the HTTP route. None = unknown, or without meaning."""

from __future__ import annotations

import msgspec

from extender.decision.disruption.evictions import GroupRestart


class WhyRemedy(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would help."""

    kind: str
    """wait, correct, lower, evict, uncordon, tolerate, repair, retry, add_node or look."""
    text: str
    cause: str
    """The reason that it removes."""
    fits: bool
    """Whether an evaluation says that the pod fits on a node after this remedy alone."""
    cost: int
    """Remedies are in the order of their costs, see `extender.decision.why.helping.remedy_case`."""
    nodes: int = 0
    """Number of nodes on which the pod fits then."""
    node: str | None = None
    """The best of them, or the node that the remedy is about."""
    bandwidth_gbps: float | None = None
    """Bandwidth that the pod can expect there."""
    annotations: dict[str, str | None] = {}
    """Annotation of the pod -> its new value; None: remove it."""
    evict: list[str] = []
    """namespace/name of the pods to evict."""
    harms: list[str] = []
    """What an eviction costs besides a restart of these pods, as sentences; `text` has them too."""
    restarts: list[GroupRestart] = []
    """The groups that restart as a whole when these pods are evicted."""
    requests: dict[str, str] = {}
    """Resource -> the pod's new request, of all containers together."""
    taints: list[str] = []
    """Taints to tolerate or to remove, as key=value:effect."""
    platform: str | None = None
    """The bundled platform of a node to add."""


class WhyCause(msgspec.Struct, frozen=True, kw_only=True):
    """One refusal of the nodes of a group."""

    by: str
    """kube-scheduler (its filters, evaluated here), fabricwise, or kube-scheduler's report."""
    reason: str
    details: list[str]
    """Different details, the most frequent first; at most a few."""
    resolvable: bool


class WhyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are refused for the same reasons."""

    nodes: int
    names: list[str]
    """Some of the nodes; empty where only kube-scheduler's report names the number."""
    causes: list[WhyCause]


class WhyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What kube-scheduler has reported."""

    message: str
    age_seconds: float | None
    attempts: int
    scheduler: str
    is_older: bool
    """Whether the state has changed since: it refuses nodes on which the pod fits now."""


class WhyCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """The node that would be chosen now."""

    node: str
    nodes: int
    """Number of nodes on which the pod fits."""
    gpus: list[int]
    """The most probable GPUs."""
    probability: float | None
    bandwidth_gbps: float | None


class WhyNeighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Another pod with GPUs on the same node."""

    pod: str
    gpus: int
    indices: list[int] | None
    """nvidia-smi indices; None where unknown."""
    busy: float | None
    """The highest strain of its GPUs, 0..1, by telemetry."""


class WhyPlacement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bound pod is, and what it gets there."""

    node: str
    gpus: list[int] | None
    """nvidia-smi indices; None where unknown."""
    predicted_gbps: float | None
    """The bandwidth that was expected when the pod was decided."""
    actual_gbps: float | None
    """The bandwidth of the GPUs that it got."""
    best_on_node_gbps: float | None
    """The best bandwidth of as many healthy GPUs of the node, when it is empty."""
    best_on_node_gpus: list[int] | None
    limits: list[str]
    """Why its GPUs are no faster, most important first."""
    faults: list[str]
    """Faults and signs of trouble of its GPUs, by telemetry and by the agent."""
    neighbours: list[WhyNeighbour]
    better: WhyCandidate | None
    """Where it would be placed now, if that is better; None where it is not, or it was not evaluated."""
    gain_gbps: float | None


class WhyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    pod: str
    uid: str | None
    state: str
    """pending, new (a manifest), running, terminating, finished or unknown."""
    reason: str
    """The dominant reason: a reason of docs/reasons.md, of kube-scheduler, or of docs/why.md."""
    sentence: str
    remedies: list[WhyRemedy] = []
    groups: list[WhyGroup] = []
    fits: WhyCandidate | None = None
    reported: WhyReport | None = None
    placement: WhyPlacement | None = None
    not_checked: list[str] = []
    complete: bool = True
    """Whether all remedies were looked for: False where the time was over before."""
    cluster: str | None = None
    """The name of the cluster, for people."""
    state_age_seconds: float | None = None
    """How long the API server was not reached: the state is so old. None: it is watched."""
    unread: list[str] = []
    """Parts of the cluster that could not be read, each with the consequence for the answer."""
    by_extender: bool = False
    """Whether a running extender has answered."""
    alike: int = 0
    """Further pods of the same workload that wait for the same reason."""
