"""PodTopologySpread: no domain has more than maxSkew matching pods above the domain with the fewest."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.kube_filters.label_matching import is_empty, label_selector_matches, with_label_keys
from extender.decision.kube_filters.node_filters import keeps_away, matches_required, taints_of, tolerates
from extender.decision.kube_filters.pod_objects import KubePod, LabelSelector, SpreadConstraint
from extender.decision.kube_filters.surroundings import NOTHING_TO_CHECK, KubeRefusal, Prepared, Surroundings, labels_of
from extender.decision.request.kubernetes_objects import Node

PLUGIN = "PodTopologySpread"
MISMATCH = "node(s) didn't match pod topology spread constraints"


@dataclass(frozen=True, slots=True)
class _Counted:
    """A constraint, and the number of matching pods in each of its domains."""

    constraint: SpreadConstraint
    selector: LabelSelector | None
    domains: dict[str, int]

    @property
    def least(self) -> int:
        """Matching pods in the domain with the fewest; 0 if there are fewer domains than `minDomains`."""
        if len(self.domains) < (self.constraint.min_domains or 1):
            return 0
        return min(self.domains.values(), default=0)


def pod_topology_spread(pod: KubePod, around: Surroundings) -> Prepared:
    """Constraints with `whenUnsatisfiable: DoNotSchedule`. kube-scheduler's built-in default constraints never refuse a node."""
    constraints = [
        constraint for constraint in pod.spec.topology_spread_constraints or () if constraint.when_unsatisfiable == "DoNotSchedule"
    ]
    if not constraints:
        return NOTHING_TO_CHECK
    if around.pods is None:
        return Prepared(None, (f"{PLUGIN}: the labels of the pods on the nodes are not known",))
    counted = [_count(pod, constraint, constraints, around) for constraint in constraints]

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        for count in counted:
            key, max_skew = count.constraint.topology_key, count.constraint.max_skew
            domain = labels_of(node).get(key)
            if domain is None:
                return (KubeRefusal(PLUGIN, f"{MISMATCH} (missing required label)", f"the node has no label {key}", False),)
            itself = int(label_selector_matches(count.selector, pod.labels))
            have = count.domains.get(domain, 0)
            if have + itself - count.least > max_skew:
                detail = f"{key}={domain} has {have} matching pods, the least filled domain {count.least}, maxSkew {max_skew}"
                return (KubeRefusal(PLUGIN, MISMATCH, detail, True),)
        return ()

    return Prepared(check)


def _count(pod: KubePod, constraint: SpreadConstraint, constraints: list[SpreadConstraint], around: Surroundings) -> _Counted:
    selector = with_label_keys(constraint.label_selector, pod.labels, constraint.match_label_keys)
    domains: dict[str, int] = {}
    for name, node in around.nodes.items():
        labels = labels_of(node)
        if any(other.topology_key not in labels for other in constraints) or not _is_included(pod, constraint, node):
            continue
        domain = labels[constraint.topology_key]
        matching = 0 if is_empty(selector) else sum(_is_counted(pod, other, selector) for other in around.pods_on(name))
        domains[domain] = domains.get(domain, 0) + matching
    return _Counted(constraint, selector, domains)


def _is_counted(pod: KubePod, other: KubePod, selector: LabelSelector | None) -> bool:
    terminating = other.metadata.deletion_timestamp is not None
    return not terminating and other.namespace == pod.namespace and label_selector_matches(selector, other.labels)


def _is_included(pod: KubePod, constraint: SpreadConstraint, node: Node) -> bool:
    """Return whether a node's domain counts: by default if the pod's node affinity allows the node, whatever its taints."""
    if (constraint.node_affinity_policy or "Honor") == "Honor" and not matches_required(pod, node):
        return False
    if (constraint.node_taints_policy or "Ignore") == "Honor":
        return all(tolerates(pod.spec.tolerations or (), taint) for taint in taints_of(node) if keeps_away(taint))
    return True
