"""The check that follows from the state of a sample's pod. Tests with a real API server are in tests/cluster."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extender.decision.report.checks.node_checks import Status
from extender.kube.smoke_test import PRIORITY_MANIFEST, UNSCHEDULABLE_SECONDS, outcome
from tests.checkout import ROOT

BOUND = {"nodeName": "n"}
LACKING = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: 1 Insufficient nvidia.com/gpu."}
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
FATAL = [{"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]

LOOKS: dict[str, tuple[dict[str, Any], dict[str, Any], Status | None]] = {
    "not looked at by any scheduler yet": ({}, {"phase": "Pending"}, None),
    "gated by a webhook": ({}, {"phase": "Pending", "conditions": [GATED]}, None),
    "no GPU left": ({}, {"phase": "Pending", "conditions": [LACKING]}, Status.UNKNOWN),
    "bound, after it waited": (BOUND, {"phase": "Pending", "conditions": [LACKING]}, None),
    "runs": (BOUND, {"phase": "Running"}, None),
    "succeeded": (BOUND, {"phase": "Succeeded"}, Status.PASS),
    "failed by itself": (BOUND, {"phase": "Failed", "containerStatuses": FATAL}, Status.FAIL),
    "ran too long": (BOUND, {"phase": "Failed", "reason": "DeadlineExceeded"}, Status.FAIL),
    "its device was gone": (BOUND, {"phase": "Failed", "reason": "UnexpectedAdmissionError"}, Status.UNKNOWN),
    "out of GPUs": (BOUND, {"phase": "Failed", "reason": "OutOfnvidia.com/gpu"}, Status.UNKNOWN),
    "out of CPU": (BOUND, {"phase": "Failed", "reason": "OutOfcpu"}, Status.UNKNOWN),
    "put out by the kubelet": (BOUND, {"phase": "Failed", "reason": "Evicted"}, Status.UNKNOWN),
    "preempted": (BOUND, {"phase": "Failed", "conditions": [DISRUPTED]}, Status.UNKNOWN),
    "without a status": (BOUND, {}, None),
}


@pytest.mark.parametrize("name", LOOKS)
def test_only_a_sample_that_ran_passes_or_fails_its_node(name: str) -> None:
    spec, status, expected = LOOKS[name]
    check = outcome({"spec": spec, "status": status}, "image", UNSCHEDULABLE_SECONDS)
    assert (check.status if check else None) == expected
    assert check is None or check.status is Status.PASS or check.remedy


def test_first_refusal_by_the_scheduler_is_not_final() -> None:
    refused = {"status": {"phase": "Pending", "conditions": [LACKING]}}
    assert outcome(refused, "image", UNSCHEDULABLE_SECONDS - 1) is None


def test_priority_class_in_the_manifests_equals_the_one_that_doctor_creates() -> None:
    path = ROOT / "manifests/base/smoke-priority.yaml"
    assert yaml.safe_load(path.read_text()) == PRIORITY_MANIFEST
