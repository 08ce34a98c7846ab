"""The order in which the kubelet admits the pods of a node, as far as the API shows it: the extender's and the steerer's."""

from __future__ import annotations

from typing import Any

import pytest

from extender.steering.choice.waiting_pods import node_pod
from tests.objects import GPU, node, pod, snapshot

EARLY, LATE = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"


def bound(name: str, scheduled: str = EARLY, created: str = EARLY, priority: int | None = None) -> dict[str, Any]:
    """A pod that was bound and created at these times."""
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}
    manifest = pod(1, name=name, node="n", status={"conditions": [condition]})
    manifest["metadata"] |= {"creationTimestamp": created, "uid": f"uid-{99 - ord(name[0])}"}
    if priority is not None:
        manifest["spec"]["priority"] = priority
    return manifest


ORDERS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "bound earlier": ([bound("a", LATE), bound("b")], ["b", "a"]),
    "bound earlier, of lower priority": ([bound("a", LATE, priority=9), bound("b")], ["b", "a"]),
    "bound in the same second, of higher priority": ([bound("a"), bound("b", priority=9)], ["b", "a"]),
    "bound in the same second, created earlier": ([bound("a", LATE, LATE), bound("b", LATE)], ["b", "a"]),
    "bound and created in the same second": ([bound("b"), bound("a"), bound("c")], ["a", "b", "c"]),
}


@pytest.mark.parametrize(("manifests", "names"), ORDERS.values(), ids=ORDERS)
def test_pods_are_admitted_in_the_order_of_binding_and_within_a_second_in_that_of_the_queue(
    manifests: list[dict[str, Any]], names: list[str]
) -> None:
    (view,) = snapshot(node("n", 8), *manifests).views.values()
    assert [each.name for each in view.pods] == names


@pytest.mark.parametrize(("manifests", "names"), ORDERS.values(), ids=ORDERS)
def test_steerer_orders_pods_as_the_extender_does(manifests: list[dict[str, Any]], names: list[str]) -> None:
    pods = [found for manifest in manifests if (found := node_pod(manifest, GPU)) is not None]
    by_key = snapshot(node("n", 8), *manifests).pods
    assert {each.uid: each.admission_order for each in pods} == {key: each.admission_order for key, each in by_key.items()}
