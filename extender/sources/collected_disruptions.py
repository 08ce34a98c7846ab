"""What advice on moves needs beside the state, kept while a cluster is listed: whole pods, and disruption budgets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from extender.decision.disruption.disruption_facts import MAY_BE_EXCEEDED, Budget, DisruptionFacts, PodFacts, budget_of, pod_facts
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.state.pods import has_ended
from extender.kube.objects.resources import BUDGET_RESOURCE
from extender.sources.dump import WRITTEN_LIST

BUDGET_KIND = "PodDisruptionBudget"


@dataclass(slots=True)
class CollectedDisruptions:
    """Called with (kind, parsed manifest) of every object that is read. Invalid objects are left out, and counted."""

    pods: dict[str, PodFacts] = field(default_factory=dict)
    """Bound pods that have not ended, by pod key."""
    budgets: list[Budget] = field(default_factory=list)
    undecoded: int = 0
    seen_kinds: set[str] = field(default_factory=set)

    def __call__(self, kind: str, manifest: Any) -> None:
        """Keep the needed fields of an object."""
        if kind == WRITTEN_LIST:
            if BUDGET_RESOURCE.listed_as not in manifest:
                self.seen_kinds.add(BUDGET_KIND)
            return
        self.seen_kinds.add(kind)
        try:
            if kind == "Pod":
                self._keep(pod_facts(manifest))
            elif kind == BUDGET_KIND:
                self.budgets.append(budget_of(manifest))
        except msgspec.ValidationError:
            self.undecoded += 1

    def _keep(self, facts: PodFacts) -> None:
        if facts.pod.spec.node_name and not has_ended(facts.pod):
            self.pods[facts.pod.key] = facts

    def facts(self, unread: Iterable[str] = (), *, are_budgets_known: bool = True) -> DisruptionFacts:
        """Return the facts about all pods. `unread`: what could not be read, as sentences."""
        by_node: defaultdict[str, list[KubePod]] = defaultdict(list)
        for facts in self.pods.values():
            by_node[facts.pod.spec.node_name or ""].append(facts.kube_pod)
        invalid = [f"{self.undecoded} pods or budgets could not be read; they are not considered"] if self.undecoded else []
        pods_by_node = {node: tuple(pods) for node, pods in by_node.items()}
        return DisruptionFacts(self.pods, tuple(self.budgets), (*unread, *invalid), pods_by_node, are_budgets_known)

    def unread_in_file(self) -> tuple[str, ...]:
        """Return what the file of a cluster does not contain, with the consequence, as sentences. Without pods, nothing can be evicted."""
        return () if BUDGET_KIND in self.seen_kinds or not self.pods else (f"The cluster's file has no {BUDGET_KIND}. {MAY_BE_EXCEEDED}",)

    def facts_of_file(self) -> DisruptionFacts:
        """Return the facts about all pods of a cluster's file."""
        unread = self.unread_in_file()
        return self.facts(unread, are_budgets_known=not unread)
