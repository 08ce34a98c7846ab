"""Reasons that kube-scheduler has reported: which of them the filters here evaluate too, and what helps against the others."""

from __future__ import annotations

import re

from extender.decision.request.reasons import Reason
from extender.decision.why.pod_question import Question
from extender.decision.why.scheduler_messages import ReportedReason

_OURS = frozenset(reason.value for reason in Reason)
_NEEDS_PODS = ("Insufficient ", "Too many pods", "node(s) didn't have free ports", "node(s) didn't match pod ", "node(s) didn't satisfy ")
_NEEDS_NODES = (
    "node(s) had untolerated taint",
    "node(s) had taint",
    "node(s) were unschedulable",
    "node(s) didn't match Pod's node affinity",
    "node(s) didn't match the requested node name",
)
_NEEDS_VOLUMES = ("node(s) didn't match PersistentVolume's node affinity",)


def unchecked(question: Question) -> tuple[ReportedReason, ...]:
    """Return the reported reasons that no filter here has evaluated for this pod."""
    return tuple(each for each in question.reported.message.reasons if not is_checked(each.reason, question))


def is_checked(reason: str, question: Question) -> bool:
    """Whether a filter that was evaluated here decides about a reason of kube-scheduler's message."""
    if reason in _OURS or reason == f"Insufficient {question.resource}":
        return True
    if question.kube_pod is None:
        return False
    if reason.startswith(_NEEDS_NODES):
        return True
    if reason.startswith(_NEEDS_PODS):
        return question.around.pods is not None
    return reason.startswith(_NEEDS_VOLUMES) and question.around.volumes is not None


_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"Insufficient (?P<what>\S+)", "request less {what}, or free some: kubectl describe nodes shows what is requested on each"),
    (r"Too many pods", "raise maxPods of the kubelets, remove pods, or add nodes"),
    (r"untolerated taint|had taint", "tolerate the taint in the pod, or remove it: kubectl describe nodes | grep -A2 Taints"),
    (r"were unschedulable", "kubectl uncordon the nodes, once their maintenance is over"),
    (r"node affinity/selector", "change nodeSelector or node affinity of the pod, or label nodes"),
    (r"pod affinity|anti-affinity|topology spread", "relax the pod's affinity to other pods or its topology spread constraints"),
    (r"(?i)persistentvolume|volume", "kubectl get pvc,pv: create, bind or move the volumes of the pod"),
    (r"(?i)resourceclaim|cannot allocate all claims|deviceclass", "kubectl get resourceclaims,resourceslices: see docs/dra.md"),
    (r"free ports", "use another hostPort, or fewer pods per node"),
    (
        r"(?i)context deadline exceeded|connection refused|no such host|i/o timeout|EOF",
        "the extender is down or not reachable: kubectl -n fabricwise-system get pods, its log, and the NetworkPolicy",
    ),
)
"""Pattern of a reason or error -> what helps."""


def general_remedy(text: str) -> str | None:
    """Return what helps against a reason or error that kube-scheduler has reported; None where nothing is known of it."""
    for pattern, remedy in _REMEDIES:
        match = re.search(pattern, text)
        if match is not None:
            return remedy.format(**match.groupdict())
    return None
