"""The mix of later pods' sizes on both sides: the extender learns and records it, and the steerer answers with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.node.interned_states import with_extra_pods
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.state.pods import RECORD_ANNOTATION
from extender.scheduling.binder import Binder
from extender.steering.choice.device_choice import Answer, Request, choose
from extender.steering.choice.waiting_pods import node_pod, waiting
from tests.objects import GPU, container, node, pod, pod_struct, snapshot, topology
from tests.scheduling.test_binding import Desk
from topology.devices.facts_file import DeviceFacts, FactsError, decode_facts, encode_facts
from topology.devices.size_mix import EVEN_MIX, MOST_DECISION_CHARACTERS, SizeMix, as_recorded, of_known_sizes, recorded_mix
from topology.devices.steering import Steering, steered_set
from topology.devices.steering_table import table_of
from topology.gputopology.topology_record import Allocation, DeviceStatus, SteeringStatus
from topology.machine.hardware import mask_of, positions_of
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

PLATFORM = "a100-pcie-bridge-pairs"
PLATFORMS = (PLATFORM, "dgx-1v", "hgx-h100")
STEERING = SteeringStatus("0.1.0", (GPU,), "mixed")
SEVEN_FREE = DeviceStatus(tuple(range(7)), (Allocation(7, None, "other", "foreign"),), steering=STEERING)
SEVEN = 0x7F
SINGLES: SizeMix = ((1, 1.0), (2, 0.0), (4, 0.0), (8, 0.0))
PAIRS: SizeMix = ((1, 0.0), (2, 1.0), (4, 0.0), (8, 0.0))


def best(size: int, mix: SizeMix, offered: int = SEVEN, platform: str = PLATFORM) -> int:
    """The mask of the steerer's set out of the offered devices for this mix."""
    found = steered_set(table_for(machine_of(platform)), offered, 0, size, Steering(size_mix=mix))
    assert found is not None
    return found


def text(mix: SizeMix) -> str:
    """The part of a decision that records a mix."""
    return json.dumps({"sizeMix": as_recorded(mix)})


def facts(platform: str) -> DeviceFacts:
    """What the agent tells the steerer about a machine of eight fit devices."""
    machine = machine_of(platform)
    table = table_of(table_for(machine), Steering())
    assert table is not None
    return decode_facts(encode_facts(machine, table, Steering(), 0.0))


def test_mix_can_change_the_set() -> None:
    assert best(1, SINGLES) != best(1, EVEN_MIX), "else the tests below show nothing"
    assert best(2, SINGLES) != best(2, EVEN_MIX), "else the tests below show nothing"


class TestRecord:
    USABLE: ClassVar[dict[str, tuple[str, SizeMix]]] = {
        "all sizes": ('{"sizeMix": {"1": 0.5, "2": 0.25, "4": 0.25, "8": 0}}', ((1, 0.5), (2, 0.25), (4, 0.25), (8, 0.0))),
        "some sizes, in another order": ('{"sizeMix": {"8": 1, "1": 0.5}}', ((1, 0.5), (2, 0.0), (4, 0.0), (8, 1.0))),
        "other fields are not read": ('{"id": 7, "sizeMix": {"2": 1}, "containers": "x"}', PAIRS),
    }
    UNUSABLE: ClassVar[dict[str, object]] = {
        "no annotation": None,
        "no text": 7,
        "no JSON": "{",
        "no object": "[1]",
        "no mix": "{}",
        "mix is null": '{"sizeMix": null}',
        "mix is empty": '{"sizeMix": {}}',
        "mix is a list": '{"sizeMix": [[1, 1.0]]}',
        "size that no mix has": '{"sizeMix": {"3": 1}}',
        "size of zero": '{"sizeMix": {"0": 1, "1": 1}}',
        "size is a word": '{"sizeMix": {"one": 1}}',
        "weight is text": '{"sizeMix": {"1": "1"}}',
        "weight below zero": '{"sizeMix": {"1": 1, "2": -0.5}}',
        "weight above one": '{"sizeMix": {"1": 1.5}}',
        "weight that is not finite": '{"sizeMix": {"1": 1e999}}',
        "weight that is no number": '{"sizeMix": {"1": NaN}}',
        "no weight at all": '{"sizeMix": {"1": 0, "2": 0}}',
        "thousands of sizes": json.dumps({"sizeMix": {str(size): 0.5 for size in range(5_000)}}),
        "deeply nested": '{"sizeMix": ' + "[" * 60_000,
        "too long": '{"sizeMix": {"1": 1}}' + " " * MOST_DECISION_CHARACTERS,
    }

    @pytest.mark.parametrize("name", USABLE)
    def test_usable_record_is_read(self, name: str) -> None:
        annotation, expected = self.USABLE[name]
        assert recorded_mix(annotation) == expected

    @pytest.mark.parametrize("name", UNUSABLE)
    def test_record_that_no_extender_writes_counts_as_none(self, name: str) -> None:
        assert recorded_mix(self.UNUSABLE[name]) is None

    @given(st.dictionaries(st.integers(1, 16), st.floats(0, 1000), max_size=16))
    def test_every_mix_of_the_settings_is_recorded_so_that_both_sides_read_the_same_numbers(self, mix: Mapping[int, float]) -> None:
        shares = of_known_sizes(mix)
        if shares is None:
            assert not any(mix.values())
        else:
            assert recorded_mix(text(shares)) == shares

    def test_size_that_a_steerer_does_not_know_counts_as_the_next_larger_one(self) -> None:
        assert of_known_sizes({3: 1.0, 6: 1.0, 16: 2.0}) == ((1, 0.0), (2, 0.0), (4, 0.25), (8, 0.75))


@pytest.mark.parametrize("platform", PLATFORMS)
@given(st.data())
def test_steerer_and_extender_choose_the_same_set_for_any_mix(platform: str, data: st.DataObject) -> None:
    offered = data.draw(st.integers(1, 255))
    size = data.draw(st.integers(1, offered.bit_count()))
    mix = of_known_sizes(data.draw(st.fixed_dictionaries(dict.fromkeys((1, 2, 4, 8), st.floats(0.001, 1)))))
    assert mix is not None
    steering = Steering(size_mix=mix)
    assert steered_set(facts(platform).table, offered, 0, size, steering) == best(size, mix, offered, platform)


def test_facts_with_a_mix_of_sizes_that_their_values_do_not_have_are_refused() -> None:
    machine, steering = machine_of(PLATFORM), Steering(size_mix=((3, 1.0),))
    table = table_of(table_for(machine), steering)
    assert table is not None
    with pytest.raises(FactsError, match="mix of sizes"):
        decode_facts(encode_facts(machine, table, steering, 0.0))


class Desk40(Desk):
    """A cluster in which forty pods of one GPU have taught the extender its mix; node a has seven free devices and a steerer."""

    def __init__(self, wanted: dict[str, Any], status: DeviceStatus | None = SEVEN_FREE) -> None:
        super().__init__()
        singles = [pod(1, name=f"single-{number}", node="b") for number in range(40)]
        self.list(node("a"), topology("a", PLATFORM, status), node("b", 64), wanted, *singles)
        self.evaluator = Evaluator(Policy())
        self.evaluator.learn(self.store.snapshot)
        self.learnt = of_known_sizes(self.evaluator.size_mix)
        assert self.learnt is not None
        assert self.learnt != EVEN_MIX
        self.binder = Binder(self.store, EvaluationContext(self.evaluator, GPU, self.store.defaults), self.settings, self.log, self.writer)

    def decision(self) -> dict[str, Any]:
        """Bind the pod, and return what is recorded."""
        assert self.bind() == ""
        ((_, _, annotations),) = self.writer.bindings
        found: dict[str, Any] = json.loads(annotations[RECORD_ANNOTATION])
        return found


@pytest.mark.parametrize("size", [1, 2])
def test_decision_is_made_for_the_learnt_mix_and_records_it(size: int) -> None:
    desk = Desk40(pod(size))
    decision = desk.decision()
    assert desk.learnt is not None
    assert recorded_mix(json.dumps(decision)) == desk.learnt
    assert mask_of(decision["containers"][0]) == best(size, desk.learnt)
    assert best(size, desk.learnt) != best(size, EVEN_MIX)


def test_decision_about_a_node_without_a_steerer_records_no_mix() -> None:
    assert "sizeMix" not in Desk40(pod(2), DeviceStatus(tuple(range(8)))).decision()


def test_mix_of_the_settings_is_used_and_recorded_where_it_has_sizes_that_a_steerer_does_not_know() -> None:
    desk = Desk40(pod(2))
    context = EvaluationContext(Evaluator(Policy({3: 1.0, 7: 1.0})), GPU, desk.store.defaults)
    desk.binder = Binder(desk.store, context, desk.settings, desk.log, desk.writer)
    mix = ((1, 0.0), (2, 0.0), (4, 0.5), (8, 0.5))
    decision = desk.decision()
    assert (recorded_mix(json.dumps(decision)), mask_of(decision["containers"][0])) == (mix, best(2, mix))


def wanting(size: int) -> Demand:
    demand = demand_of(pod_struct(pod(size)), GPU)
    assert isinstance(demand, Demand)
    return demand


def predicted(evaluator: Evaluator, state: NodeState, size: int = 1) -> int:
    """The mask of the one set that a pod gets."""
    (prospect,) = evaluator.evaluate(wanting(size), state).evidence.prospects
    return mask_of(prospect.gpus)


def test_prediction_is_for_the_steerers_own_mix_until_decisions_are_recorded() -> None:
    desk = Desk40(pod(1))
    state, learnt = desk.store.snapshot.views["a"].state, desk.learnt
    assert learnt is not None
    assert predicted(desk.evaluator, state) == best(1, EVEN_MIX), "kube-scheduler binds, and records nothing"
    desk.decision()
    assert predicted(desk.evaluator, state) == best(1, learnt), "the bind verb records the mix"


def test_mix_that_is_learnt_later_changes_the_predictions() -> None:
    evaluator = Evaluator(Policy())
    evaluator.record_decisions()
    state = snapshot(node("a"), topology("a", PLATFORM, SEVEN_FREE)).views["a"].state
    assert predicted(evaluator, state) == best(1, EVEN_MIX)
    evaluator.learn(snapshot(node("b", 64), *(pod(1, name=f"p{number}", node="b") for number in range(40))))
    learnt = evaluator.decided_mix
    assert learnt is not None
    assert predicted(evaluator, state) == best(1, learnt) != best(1, EVEN_MIX)


def test_recording_of_decisions_drops_no_verdict_where_no_node_has_a_steerer() -> None:
    evaluator, state = Evaluator(Policy()), snapshot(node("a"), topology("a", PLATFORM)).views["a"].state
    before, mix = evaluator.evaluate(wanting(1), state), evaluator.size_mix
    evaluator.record_decisions()
    assert evaluator.evaluate(wanting(1), state) is before
    assert evaluator.size_mix is mix


def test_devices_of_an_assumed_pod_are_predicted_for_the_mix_that_its_decision_records() -> None:
    state = snapshot(node("a"), topology("a", PLATFORM, SEVEN_FREE)).views["a"].state
    for mix, used in ((SINGLES, SINGLES), (None, EVEN_MIX)):
        assert with_extra_pods(state, (wanting(1),), mix).free_sets == ((SEVEN & ~best(1, used), 1.0),)


def served(platform: str, free: int, manifest: dict[str, Any]) -> int:
    """The mask that a pod takes: the kubelet asks for one container after another, and the steerer answers."""
    known, waits = facts(platform), node_pod(manifest, GPU)
    assert waits is not None
    taken = reusable = 0
    held = set[str]()
    for step in waits.steps:
        offered = tuple(str(position) for position in positions_of(free & ~taken | reusable))
        required = tuple(str(position) for position in positions_of(reusable))
        answer = choose(Request(offered, required, step.size), known, waiting([waits], {(waits.namespace, waits.name): held}, step.size))
        assert isinstance(answer, Answer)
        given_mask = mask_of(sorted(int(device) for device in answer.ids))
        taken |= given_mask
        reusable = reusable | given_mask if step.ends else reusable & ~given_mask
        if not step.ends:
            held.add(step.container)
    return taken


ANNOTATIONS = st.one_of(
    st.none(),
    st.sampled_from([found for found in TestRecord.UNUSABLE.values() if isinstance(found, str) and len(found) < 10_000]),
    st.sampled_from([record for record, _ in TestRecord.USABLE.values()]),
    st.fixed_dictionaries(dict.fromkeys((1, 2, 4, 8), st.floats(0, 1)))
    .map(of_known_sizes)
    .filter(lambda mix: mix is not None)
    .map(lambda mix: text(mix or EVEN_MIX)),
)


@pytest.mark.parametrize("platform", PLATFORMS)
@given(st.data())
def test_pod_gets_the_devices_that_are_predicted_for_it_whatever_its_annotation_says(platform: str, data: st.DataObject) -> None:
    annotation = data.draw(ANNOTATIONS)
    held = data.draw(st.sets(st.integers(0, 7), max_size=3))
    mains = data.draw(st.sampled_from([(1,), (2,), (3,), (4,), (1, 2), (2, 2)]))
    inits = data.draw(st.lists(st.integers(1, mains[0]), max_size=2).map(sorted))
    manifest = pod(*mains, node="a", annotations={RECORD_ANNOTATION: annotation} if annotation is not None else {})
    manifest["spec"]["containers"] = [container(size, f"main-{place}") for place, size in enumerate(mains)]
    manifest["spec"]["initContainers"] = [container(size, f"init-{place}") for place, size in enumerate(inits)]
    free = 0xFF & ~mask_of(sorted(held))
    status = DeviceStatus(
        positions_of(free), tuple(Allocation(index, None, "other", "foreign") for index in sorted(held)), steering=STEERING
    )
    view = snapshot(node("a"), topology("a", platform, status), manifest).views["a"]
    assert view.state.free_sets == ((free & ~served(platform, free, manifest), 1.0),)
