"""InterPodAffinity: required affinity and anti-affinity of the pod, and required anti-affinity of the pods on the nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extender.decision.kube_filters.label_matching import is_empty, label_selector_matches, with_label_keys
from extender.decision.kube_filters.pod_objects import KubePod, PodAffinity, PodAffinityTerm
from extender.decision.kube_filters.surroundings import NOTHING_TO_CHECK, KubeRefusal, Prepared, Surroundings, labels_of
from extender.decision.request.kubernetes_objects import Node

PLUGIN = "InterPodAffinity"
AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
Domain = tuple[str, str]
"""(topology key, value)."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """Domains that have matching pods."""

    affine: frozenset[Domain]
    """A pod there matches all affinity terms of the pod."""
    averse: frozenset[Domain]
    """A pod there matches an anti-affinity term of the pod."""
    existing: frozenset[Domain]
    """A pod there has an anti-affinity term that matches the pod."""


def inter_pod_affinity(pod: KubePod, around: Surroundings) -> Prepared:
    """Required (anti-)affinity terms. Terms with a `namespaceSelector` that is not empty are not checked: Namespaces are not read."""
    policy = pod.spec.affinity
    attracts = _required(policy.pod_affinity if policy else None)
    repels = _required(policy.pod_anti_affinity if policy else None)
    if around.pods is None:
        need = "its own terms and " if attracts or repels else ""
        return Prepared(None, (f"{PLUGIN}: {need}the anti-affinity of the pods on the nodes are not known",))
    unread = [term for term in (*attracts, *repels) if term.namespace_selector is not None and not is_empty(term.namespace_selector)]
    not_checked = (f"{PLUGIN}: terms with a namespaceSelector, because Namespaces are not read",) if unread else ()
    attracts, repels = [term for term in attracts if term not in unread], [term for term in repels if term not in unread]
    counts = _counted(pod, attracts, repels, around)
    if not attracts and not repels and not counts.existing:
        return Prepared(None, not_checked) if not_checked else NOTHING_TO_CHECK

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        domains = set(labels_of(node).items())
        if attracts and not _attracted(pod, attracts, counts, node):
            return (KubeRefusal(PLUGIN, AFFINITY, f"no matching pod in the node's {_keys(attracts)}", False),)
        if any((term.topology_key, labels_of(node).get(term.topology_key)) in counts.averse for term in repels):
            return (KubeRefusal(PLUGIN, ANTI_AFFINITY, f"a pod that it keeps away from is in the node's {_keys(repels)}", True),)
        if domains & counts.existing:
            return (KubeRefusal(PLUGIN, EXISTING, "a pod there keeps pods like this one away", True),)
        return ()

    return Prepared(check, not_checked)


def _required(policy: PodAffinity | None) -> list[PodAffinityTerm]:
    return list(policy.required_during_scheduling_ignored_during_execution or ()) if policy is not None else []


def _keys(terms: Iterable[PodAffinityTerm]) -> str:
    return ", ".join(sorted({term.topology_key for term in terms}))


def _counted(pod: KubePod, attracts: list[PodAffinityTerm], repels: list[PodAffinityTerm], around: Surroundings) -> _Counts:
    """Return the domains with pods that match the pod's terms, or whose own terms match the pod."""
    affine, averse, existing = set[Domain](), set[Domain](), set[Domain]()
    for name, node in around.nodes.items():
        labels = labels_of(node)

        def domains(term: PodAffinityTerm, labels: dict[str, str] = labels) -> set[Domain]:
            return {(term.topology_key, labels[term.topology_key])} if term.topology_key in labels else set()

        for other in around.pods_on(name):
            if attracts and all(_matches(term, pod, other) for term in attracts):
                affine |= {domain for term in attracts for domain in domains(term)}
            averse |= {domain for term in repels if _matches(term, pod, other) for domain in domains(term)}
            other_repels = _required(other.spec.affinity.pod_anti_affinity) if other.spec.affinity else []
            existing |= {domain for term in other_repels if _matches(term, other, pod) for domain in domains(term)}
    return _Counts(frozenset(affine), frozenset(averse), frozenset(existing))


def _attracted(pod: KubePod, terms: list[PodAffinityTerm], counts: _Counts, node: Node) -> bool:
    labels = labels_of(node)
    if any(term.topology_key not in labels for term in terms):
        return False
    if all((term.topology_key, labels[term.topology_key]) in counts.affine for term in terms):
        return True
    return not counts.affine and all(_matches(term, pod, pod) for term in terms)  # the first pod of a group with affinity to itself


def _matches(term: PodAffinityTerm, owner: KubePod, other: KubePod) -> bool:
    """Return whether a term of `owner` selects `other`."""
    everywhere = is_empty(term.namespace_selector)
    named = term.namespaces or ([owner.namespace] if term.namespace_selector is None else [])
    selector = with_label_keys(term.label_selector, owner.labels, term.match_label_keys, term.mismatch_label_keys)
    return (everywhere or other.namespace in named) and label_selector_matches(selector, other.labels)
