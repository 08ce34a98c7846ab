"""When the eviction API refuses an eviction, by the pod's state and the budgets that cover it."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.disruption.disruption_facts import budget_of, pod_facts
from extender.decision.disruption.evictions import SEVERAL_BUDGETS, why_refused
from tests.objects import pod
from tests.slots.moved_clusters import budget

NONE_NOW = "budget team/b allows no disruption now"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
UNREADY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
CLOSED = budget("b", 0)
HEALTHY = budget("b", 0, currentHealthy=2, desiredHealthy=2)
ALWAYS = {**CLOSED, "spec": {"selector": {}, "unhealthyPodEvictionPolicy": "AlwaysAllow"}}

RULES: dict[str, tuple[dict[str, Any] | None, list[dict[str, Any]], str | None]] = {
    "no budget": (READY, [], None),
    "a budget that allows one": (READY, [budget("b", 1)], None),
    "a budget that allows none": (READY, [CLOSED], NONE_NOW),
    "two budgets": (READY, [budget("b", 1), budget("c", 1)], SEVERAL_BUDGETS),
    "a pod whose status is not known": (None, [CLOSED], NONE_NOW),
    "a pod that has not started": ({"phase": "Pending"}, [CLOSED], None),
    "a pod that has not started, with two budgets": ({"phase": "Pending"}, [CLOSED, budget("c", 0)], None),
    "a pod that has failed": ({"phase": "Failed"}, [CLOSED], None),
    "an unready pod": (UNREADY, [CLOSED], NONE_NOW),
    "an unready pod whose budget has enough healthy ones": (UNREADY, [HEALTHY], None),
    "a ready pod whose budget has enough healthy ones": (READY, [HEALTHY], NONE_NOW),
    "an unready pod that may always be evicted": (UNREADY, [ALWAYS], None),
    "a ready pod where unready ones may always be evicted": (READY, [ALWAYS], NONE_NOW),
}


@pytest.mark.parametrize(("status", "budgets", "reason"), RULES.values(), ids=RULES)
def test_eviction_is_refused_by_the_rules_of_the_api_server(
    status: dict[str, Any] | None, budgets: list[dict[str, Any]], reason: str | None
) -> None:
    facts = pod_facts({**pod(1, node="a"), **({"status": status} if status is not None else {})})
    refused = why_refused([facts], tuple(map(budget_of, budgets)))
    assert (refused[1] if refused is not None else None) == reason


def test_pods_that_are_evicted_one_after_another_use_up_a_budget() -> None:
    pods = [pod_facts({**pod(1, name=name, node="a"), "status": READY}) for name in ("p", "q")]
    refused = why_refused(pods, (budget_of(budget("b", 1)),))
    assert refused is not None
    assert (refused[0].metadata.name, refused[1]) == ("q", "budget team/b allows no further disruption")
    assert why_refused(pods[:1], (budget_of(budget("b", 1)),), {"team/b": 1}) is not None
