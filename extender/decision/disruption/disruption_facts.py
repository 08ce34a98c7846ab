"""Pods as their manifests state them, and PodDisruptionBudgets: who recreates a pod, and which budgets cover it.

These facts are no part of the snapshot, because decisions do not need them: the caller reads them when it asks for advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from extender.decision.disruption.restart_groups import RestartGroup
from extender.decision.kube_filters.label_matching import label_selector_matches
from extender.decision.kube_filters.pod_objects import KubePod, LabelSelector
from extender.decision.request.kubernetes_objects import Owner, Pod

_CORE = ("ReplicaSet", "ReplicationController", "StatefulSet", "Job")
_OTHERS = ("LeaderWorkerSet", "JobSet", "CloneSet", "AdvancedStatefulSet", "RayCluster")
_TRAINING = ("PyTorchJob", "MPIJob", "TFJob", "JAXJob", "XGBoostJob", "PaddleJob")
RECREATING = frozenset((*_CORE, *_OTHERS, *_TRAINING))
"""Kinds whose controller creates a new pod, on any node, for one that was evicted."""

ON_ITS_NODE = frozenset(("DaemonSet", "Node"))
"""Kinds whose pods return to the node that they were evicted from."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget."""

    namespace: str
    name: str
    selector: LabelSelector | None
    """None selects no pod, an empty one every pod of the namespace (policy/v1)."""
    allowed: int
    """Pods that may be evicted now."""
    allows_unready: bool = False
    """Whether running pods that are not ready may be evicted besides."""

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    def covers(self, pod: Pod) -> bool:
        """Return whether the budget counts the pod."""
        is_of_namespace = (pod.metadata.namespace or "default") == self.namespace
        return is_of_namespace and label_selector_matches(self.selector, pod.metadata.labels or {})


class _BudgetMeta(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    generation: int = 0


class _BudgetSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: LabelSelector | None = None
    unhealthy_pod_eviction_policy: str | None = None


class _BudgetStatus(msgspec.Struct, frozen=True, rename="camel"):
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    observed_generation: int = 0


class _PodDisruptionBudget(msgspec.Struct, frozen=True):
    metadata: _BudgetMeta
    spec: _BudgetSpec = _BudgetSpec()
    status: _BudgetStatus = _BudgetStatus()


def budget_of(manifest: Any) -> Budget:
    """Return the budget of a manifest. Raises msgspec.ValidationError.

    A status that is older than the spec allows nothing: the eviction API refuses then. Unready pods may be evicted if the policy says
    so, or if enough others are healthy. Source: kubernetes 1.36 `pkg/registry/core/pod/storage/eviction.go` (Create, checkAndDecrement).
    """
    read = msgspec.convert(manifest, _PodDisruptionBudget, strict=False)
    is_current = read.status.observed_generation >= read.metadata.generation
    allowed = max(0, read.status.disruptions_allowed) if is_current else 0
    is_healthy = read.status.current_healthy >= read.status.desired_healthy > 0
    allows_unready = is_healthy or read.spec.unhealthy_pod_eviction_policy == "AlwaysAllow"
    return Budget(read.metadata.namespace or "default", read.metadata.name, read.spec.selector, allowed, allows_unready)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A bound pod as its manifest states it."""

    pod: Pod
    """As the evaluator reads it."""
    kube_pod: KubePod
    """As kube-scheduler's filters read it."""

    @property
    def owner(self) -> Owner | None:
        """The owner that controls the pod; None where it has none."""
        return next((owner for owner in self.pod.metadata.owner_references or () if owner.controller), None)


def pod_facts(manifest: Any) -> PodFacts:
    """Return the facts of a Pod's manifest. Raises msgspec.ValidationError."""
    return PodFacts(msgspec.convert(manifest, Pod, strict=False), msgspec.convert(manifest, KubePod, strict=False))


MAY_BE_EXCEEDED = "Evictions may be more than disruption budgets allow: the eviction API refuses those"
"""The consequence of budgets that could not be read."""

MOST_UNREAD = 20
"""Sentences about what could not be read in one answer."""


@dataclass(frozen=True, slots=True)
class DisruptionFacts:
    """What is known of the pods that could be evicted."""

    pods: Mapping[str, PodFacts] = field(default_factory=dict)
    """By pod key. Of a pod that is missing here nothing is known."""
    budgets: tuple[Budget, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be read, with the consequence, as sentences."""
    pods_by_node: Mapping[str, tuple[KubePod, ...]] | None = None
    """Node -> all pods bound to it that have not ended, also those without GPUs; None: not known."""
    are_budgets_known: bool = True
    """Whether all budgets were read."""
    unlisted_groups: frozenset[RestartGroup] = frozenset()
    """Groups of which not all pods could be read."""


NOTHING_READ = DisruptionFacts(are_budgets_known=False)


def facts_of(
    pods: Iterable[Any],
    budgets: Iterable[Any] | None,
    unread: Iterable[str] = (),
    unlisted_groups: Iterable[RestartGroup] = (),
) -> DisruptionFacts:
    """Return the facts of manifests of some pods and of all budgets; None: the budgets could not be read.

    A manifest that is invalid is left out, and `unread` says so.
    """
    found: dict[str, PodFacts] = {}
    read: list[Budget] = []
    said = list(unread)
    are_budgets_known = budgets is not None
    for manifest in pods:
        try:
            facts = pod_facts(manifest)
        except msgspec.ValidationError as error:
            said.append(f"a pod is invalid; nothing is known of its owner: {error}")
        else:
            found[facts.pod.key] = facts
    for manifest in budgets or ():
        try:
            read.append(budget_of(manifest))
        except msgspec.ValidationError as error:
            are_budgets_known = False
            said.append(f"a PodDisruptionBudget is invalid: {error}. {MAY_BE_EXCEEDED}")
    return DisruptionFacts(
        found,
        tuple(read),
        tuple(said[:MOST_UNREAD]),
        are_budgets_known=are_budgets_known,
        unlisted_groups=frozenset(unlisted_groups),
    )


NO_OWNER = "no controller recreates it"


def why_not_recreated(facts: PodFacts) -> str | None:
    """Return why it is not certain that a new pod is created elsewhere for one that is evicted; None where it is."""
    owner = facts.owner
    if owner is None:
        return NO_OWNER
    if owner.kind in ON_ITS_NODE:
        return f"its {owner.kind} recreates it on the same node"
    if owner.kind not in RECREATING:
        return f"it is not known whether a {owner.kind[:60]} recreates its pods"
    return None


def returns_to_its_node(facts: PodFacts) -> bool:
    """Return whether the pod is recreated on its node, so that its eviction frees nothing."""
    return facts.owner is not None and facts.owner.kind in ON_ITS_NODE
