"""A pod that requests a device resource that no node offers, such as a MIG profile: one refusal per node, and what nodes offer instead."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.why.why_types import WhyAnswer
from tests.objects import GPU, node, pod
from tests.why.why_questions import ask

SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"


def answer_about(resource: str, *offers: dict[str, str]) -> WhyAnswer:
    """Return the answer about a pod that requests one of a resource, on nodes that offer these amounts."""
    nodes = []
    for number, offered in enumerate(offers):
        amounts = {"cpu": "64", **offered}
        nodes.append(node(f"n{number}", 0) | {"status": {"capacity": amounts, "allocatable": amounts}})
    wanted: dict[str, Any] = pod(name="waits", spec={"containers": [{"name": "c", "resources": {"limits": {resource: "1"}}}]})
    return ask(wanted, *nodes)


@pytest.mark.parametrize(
    ("resource", "offers", "text"),
    [
        (SMALL, [{LARGE: "2"}, {GPU: "8"}], f"no node offers {SMALL}: request one that nodes offer ({GPU}, {LARGE}), or let"),
        ("amd.com/gpu", [{GPU: "8"}], f"no node offers amd.com/gpu: request one that nodes offer ({GPU}), or let"),
        ("example.com/nic", [{}], "no node offers example.com/nic: correct its name, or let"),
        (GPU, [{}], f"no node offers {GPU}: let the device plugin offer it"),
    ],
)
def test_resource_that_no_node_offers_is_named_with_those_that_nodes_offer(resource: str, offers: list[dict[str, str]], text: str) -> None:
    answer = answer_about(resource, *offers)
    assert any(each.text.startswith(text) and not each.fits for each in answer.remedies), [each.text for each in answer.remedies]
    assert not any("docs/reasons.md" in each.text for each in answer.remedies)


def test_resource_that_some_node_offers_is_not_called_missing() -> None:
    answer = answer_about("example.com/nic", {}, {"example.com/nic": "4", "cpu": "0"})
    assert not any("no node offers" in each.text for each in answer.remedies)


def test_missing_mig_devices_are_one_refusal_of_a_node_and_not_two() -> None:
    answer = answer_about(SMALL, {LARGE: "2"})
    assert [[cause.reason for cause in group.causes] for group in answer.groups] == [[f"Insufficient {SMALL}"]]
    assert answer.reason == f"Insufficient {SMALL}"
