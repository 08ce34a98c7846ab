"""A node's report: checks of the node before a pod starts on it, each with status, evidence and remedy. Pure.

CHECKS is a table of small functions. A check whose inputs are missing has the status unknown; it never guesses. The docstring of a check
states when it passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extender.decision.node.node_state import NodeView
from extender.decision.report.checks.device_checks import advertised, labelled, sharing
from extender.decision.report.checks.hardware_checks import healthy, measured, topology
from extender.decision.report.checks.node_subject import USABLE_MEMORY_SHARE, Check, Status, Subject, Survey, labels_of, survey
from extender.decision.report.checks.readiness import baseline, readiness
from extender.decision.report.checks.stack_checks import components, driver, isolated, ready, validated
from extender.decision.request.kubernetes_objects import Node
from extender.decision.state.isolation import described
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.conditions import Tuning

__all__ = ["CHECKS", "Check", "Status", "all_reports", "has_gpus", "node_report", "report"]

CHECKS: tuple[Callable[[Subject], Check], ...] = (
    ready,
    components,
    advertised,
    labelled,
    driver,
    isolated,
    sharing,
    topology,
    measured,
    healthy,
    validated,
)
"""In the order of a report. A function's name is the name of its check."""

GPU_LABELS = (
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.product",
    "feature.node.kubernetes.io/pci-10de.present",
    "cloud.google.com/gke-accelerator",
    "kubernetes.azure.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)
"""Labels of nodes with NVIDIA GPUs, set by GFD, Node Feature Discovery, GKE, AKS and Karpenter."""


def has_gpus(node: Node, view: NodeView, resource: str) -> bool:
    """Return whether a node has NVIDIA GPUs by its allocatable resources, its capacity, its agent or its labels."""
    labels = labels_of(node)
    offered = view.state.allocatable or view.state.slices or (view.machine is not None and view.machine.gpus) or view.dra is not None
    capacity = (node.status.capacity if node.status else None) or {}
    return bool(offered) or resource in capacity or any(labels.get(key, "false") not in ("false", "0", "") for key in GPU_LABELS)


def _checked(check: Callable[[Subject], Check], subject: Subject) -> Check:
    """Return the result of one check; a check that raises gives a warning, so that the other checks and nodes are still reported."""
    try:
        return check(subject)
    except Exception as error:
        return Check(check.__name__, Status.WARN, f"the check itself failed: {described(error)}", "report this with the node's objects")


def report(subject: Subject) -> dict[str, Any]:
    """Return a node's checks, its worst status, and the answers of its baseline and readiness, as plain data.

    A node without GPUs has the check `ready` only.
    """
    gpus = has_gpus(subject.node, subject.view, subject.resource)
    results = [_checked(check, subject) for check in (CHECKS if gpus else (ready,))]
    worst = max((check.status for check in results), key=list(Status).index)
    checks = [{"check": check.name, "status": check.status.value, "evidence": check.evidence, "remedy": check.remedy} for check in results]
    by_name = {check.name: check for check in results}
    answers = {"baseline": baseline(subject, by_name) if gpus else {}, "readiness": readiness(subject, by_name) if gpus else {}}
    return {"node": subject.name, "status": worst.value, "gpus": gpus, "checks": checks, **answers}


def node_report(
    name: str,
    snapshot: Snapshot,
    resource: str,
    tuning: Tuning,
    cluster_survey: Survey | None = None,
    usable_memory_share: float = USABLE_MEMORY_SHARE,
) -> dict[str, Any] | None:
    """Return a node's report, see `report`; None if there is no node of that name.

    `cluster_survey`: the survey of the snapshot, if it is already computed.
    """
    node, view = snapshot.nodes.get(name), snapshot.views.get(name)
    if node is None or view is None:
        return None
    return report(
        Subject(
            name=name,
            node=node,
            view=view,
            snapshot=snapshot,
            resource=resource,
            tuning=tuning,
            survey=cluster_survey or survey(snapshot),
            usable_memory_share=usable_memory_share,
        )
    )


def all_reports(
    snapshot: Snapshot, resource: str, tuning: Tuning, usable_memory_share: float = USABLE_MEMORY_SHARE
) -> list[dict[str, Any]]:
    """Return the reports of all nodes with GPUs, sorted by name."""
    cluster_survey = survey(snapshot)
    known = [(name, view) for name, view in sorted(snapshot.views.items()) if name in snapshot.nodes]
    names = [name for name, view in known if has_gpus(snapshot.nodes[name], view, resource)]
    reports = (node_report(name, snapshot, resource, tuning, cluster_survey, usable_memory_share) for name in names)
    return [data for data in reports if data is not None]
