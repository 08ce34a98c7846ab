"""What the extender decides for pods on a steered node, records for the steerer, and counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.decision.node.interned_states import with_extra_pods
from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.state.pods import RECORD_ANNOTATION
from extender.metrics import Metrics
from extender.steering.choice.device_choice import Reason
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology
from tests.scheduling.test_binding import Desk
from topology.devices.steering import Steering, steered_set
from topology.gputopology.topology_record import STEERING_REASONS, DeviceStatus, SteeringStatus
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

STEERED = DeviceStatus(tuple(range(8)), steering=SteeringStatus("0.1.0", (GPU,), "mixed"))
PLATFORM = "dgx-1v"
MESSAGES = {"decode": "decode", "mixed": "mixed", "64Ki": "65536", "1Gi": str(1 << 30)}
"""What the annotation says -> the name of the messages."""


def best(size: int, messages: str) -> int:
    """The mask of the steerer's set out of eight free devices for these messages."""
    found = steered_set(table_for(machine_of(PLATFORM)), 0xFF, 0, size, Steering(messages=messages))
    assert found is not None
    return found


def gpus(mask: int) -> list[int]:
    return [position for position in range(8) if mask >> position & 1]


def asking(size: int, messages: str | None, *, recorded: bool = False, **more: Any) -> dict[str, Any]:
    """A pod of one container. `recorded`: with the annotation of a decision."""
    annotations = {"fabricwise.dev/message-size": messages} if messages is not None else {}
    return pod(size, annotations=annotations | ({RECORD_ANNOTATION: "{}"} if recorded else {}), **more)


def decision(size: int, messages: str | None) -> dict[str, Any]:
    """What the bind verb writes to the pod."""
    desk = Desk()
    desk.list(node("a"), topology("a", PLATFORM, STEERED), asking(size, messages))
    assert desk.bind() == ""
    ((_, _, annotations),) = desk.writer.bindings
    found: dict[str, Any] = json.loads(annotations[RECORD_ANNOTATION])
    return found


def test_messages_can_change_the_set() -> None:
    assert best(3, "65536") != best(3, "mixed"), "else the tests below show nothing"


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("messages", MESSAGES)
def test_decision_names_the_set_that_is_best_for_the_messages_of_the_pod(size: int, messages: str) -> None:
    found, name = decision(size, messages), MESSAGES[messages]
    assert (found["messages"], found["containers"]) == (name, [gpus(best(size, name))])


def test_decision_about_a_pod_that_states_no_messages_is_made_for_the_steerers_own() -> None:
    found = decision(3, None)
    assert (found["messages"], found["containers"]) == ("mixed", [gpus(best(3, "mixed"))])


@pytest.mark.parametrize(("recorded", "messages"), [(True, "65536"), (False, "mixed")])
def test_devices_of_a_bound_pod_are_predicted_for_its_messages_where_the_steerer_knows_its_decision(recorded: bool, messages: str) -> None:
    bound = asking(3, "64Ki", recorded=recorded, node="a")
    view = snapshot(node("a"), topology("a", PLATFORM, STEERED), bound).views["a"]
    ((free, chance),) = view.state.free_sets
    assert (free, chance) == (0xFF & ~best(3, messages), 1.0)


def test_devices_of_an_assumed_pod_are_predicted_for_its_messages() -> None:
    state = snapshot(node("a"), topology("a", PLATFORM, STEERED)).views["a"].state
    demand = demand_of(pod_struct(asking(3, "64Ki")), GPU)
    assert isinstance(demand, Demand)
    assert with_extra_pods(state, (demand,)).free_sets == ((0xFF & ~best(3, "65536"), 1.0),)


def counted(steering: SteeringStatus) -> set[str]:
    """Lines of the metrics about one node."""
    metrics = Metrics()
    metrics.steering.set([("a", steering)])
    return {
        line for line in metrics.render().decode().splitlines() if line.startswith("fabricwise_node_steering") and "_created" not in line
    }


def test_steered_forwarded_and_differing_allocations_are_counted_per_node() -> None:
    assert counted(SteeringStatus("0.1.0", (GPU,), "mixed", (), (), 5, (("timeout", 1), ("mig", 2)), 3)) == {
        'fabricwise_node_steering_answers_total{node="a",reason="",result="steered"} 5.0',
        'fabricwise_node_steering_answers_total{node="a",reason="timeout",result="forwarded"} 1.0',
        'fabricwise_node_steering_answers_total{node="a",reason="mig",result="forwarded"} 2.0',
        'fabricwise_node_steering_differing_total{node="a"} 3.0',
    }


def test_reasons_that_this_version_does_not_know_are_counted_as_one() -> None:
    lines = counted(SteeringStatus("9", (GPU,), "mixed", (), (), 0, tuple((f"new-{number}", 1) for number in range(30))))
    assert 'fabricwise_node_steering_answers_total{node="a",reason="other",result="forwarded"} 30.0' in lines
    assert len(lines) == 3


def test_every_reason_of_this_version_has_its_own_label() -> None:
    assert frozenset(Reason) == STEERING_REASONS
