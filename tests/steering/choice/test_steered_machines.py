"""Laws of the choice on whole machines: random ones of one to six GPUs, and larger ones with broken links."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from extender.steering.choice.device_choice import Answer, Basis, Request, choose
from tests.machines import machines
from topology.devices.facts_file import DeviceFacts, decode_facts, encode_facts
from topology.devices.prediction import DevicePlugin, Kubelet
from topology.devices.steering import KnownDevices, Steering, avoided
from topology.devices.steering_table import table_of
from topology.machine.hardware import Gpu, Machine, mask_of, positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

GIB = 1 << 30


def named(machine: Machine) -> Machine:
    """The machine with uuids, and with nvidia-smi indices that are not its positions."""
    gpus = tuple(replace(gpu, uuid=f"GPU-{place}", index=2 * place + 1) for place, gpu in enumerate(machine.gpus))
    return replace(machine, gpus=gpus)


@cache
def platform(name: str, broken: tuple[tuple[int, int], ...]) -> Machine:
    """A bundled platform without the links between some pairs of GPUs."""
    machine = machine_of(name)
    links = [list(row) for row in machine.nvlinks]
    for a, b in broken:
        links[a][b] = links[b][a] = 0
    return named(replace(machine, nvlinks=tuple(map(tuple, links))))


SINGLE = Machine((Gpu(0, numa_node=None),), pcie_paths=((None,),), nvlinks=((0,),))
LARGE = st.sampled_from(
    [
        ("dgx-1v", ((0, 1),)),
        ("dgx-1v", ((0, 3), (4, 7))),
        ("a100-pcie-bridge-pairs", ((2, 3),)),
        ("hgx-h100", ()),
        ("dgx-2", ()),
    ]
).map(lambda case: platform(*case))


@dataclass(frozen=True)
class Asked:
    """A request on a machine, and what is known of it."""

    machine: Machine
    offered: int
    required: int
    size: int
    known: KnownDevices

    @property
    def steering(self) -> Steering:
        return Steering(self.known)

    def table(self) -> PlacementTable:
        return table_for(self.machine)

    def facts(self) -> DeviceFacts:
        """What the agent tells."""
        table = table_of(self.table(), self.steering)
        assert table is not None
        return decode_facts(encode_facts(self.machine, table, self.steering, 0.0))

    def ids(self, mask: int) -> tuple[str, ...]:
        return tuple(f"GPU-{position}" for position in positions_of(mask))

    def answer(self, offered: tuple[str, ...], required: tuple[str, ...]) -> int:
        """What the steerer answers where it knows no decision."""
        found = choose(Request(offered, required, self.size), self.facts(), ())
        assert isinstance(found, Answer)
        assert found.basis is Basis.FUNCTION
        assert len(found.ids) == self.size
        return mask_of(sorted(int(device.removeprefix("GPU-")) for device in found.ids))

    def predicted(self) -> int:
        """What the extender predicts of a container on a node whose free devices are offered."""
        steered = Kubelet(device_plugin=DevicePlugin.STEERED, steering=self.steering)
        (outcome,) = self.table().predictor.predict(self.offered, ((self.size, False),), steered).outcomes
        return outcome.taken

    def possible(self) -> list[int]:
        return [mask for part in combinations(positions_of(self.offered), self.size) if not self.required & ~(mask := mask_of(part))]

    def gbps(self, mask: int) -> float:
        return round(self.table().effective_gbps(mask, self.steering.messages) or 0.0, 3)


@st.composite
def requests(draw: st.DrawFn, required: bool = True) -> Asked:
    machine = draw(st.one_of(machines().map(named), st.just(named(SINGLE)), LARGE))
    count = len(machine.gpus)
    offered = draw(st.integers(1, (1 << count) - 1))
    size = draw(st.integers(1, min(offered.bit_count(), 4)))
    must = mask_of(sorted(draw(st.permutations(positions_of(offered)))[: draw(st.integers(0, size))])) if required else 0
    memory = tuple((0, 0, GIB // 2, 60 * GIB)[byte % 4] for byte in draw(st.binary(min_size=count, max_size=count)))
    pressure = tuple((byte % 5) / 4 for byte in draw(st.binary(min_size=count, max_size=count)))
    known = KnownDevices(draw(st.integers(0, (1 << count) - 1)), memory, pressure)
    return Asked(machine, offered, must, size, draw(st.sampled_from([known, KnownDevices()])))


@given(requests(), st.randoms(use_true_random=False))
def test_answer_holds_the_required_lies_within_the_offered_and_does_not_depend_on_their_order(asked: Asked, random: object) -> None:
    offered, required = list(asked.ids(asked.offered)), list(asked.ids(asked.required))
    answer = asked.answer(tuple(offered), tuple(required))
    assert not answer & ~asked.offered
    assert not asked.required & ~answer
    for listed in (offered, required):
        random.shuffle(listed)  # type: ignore[attr-defined]
    assert asked.answer(tuple(offered), tuple(required)) == answer


@given(requests())
def test_no_possible_set_is_faster_than_the_answer_where_as_few_devices_are_to_be_avoided(asked: Asked) -> None:
    answer = asked.answer(asked.ids(asked.offered), asked.ids(asked.required))
    least = min(avoided(mask, asked.known) for mask in asked.possible())
    assert avoided(answer, asked.known) == least
    assert asked.gbps(answer) == max(asked.gbps(mask) for mask in asked.possible() if avoided(mask, asked.known) == least)


@given(requests())
def test_device_with_memory_of_an_unknown_process_is_not_chosen_while_a_set_without_it_is_as_fast(asked: Asked) -> None:
    asked = replace(asked, known=replace(asked.known, excluded=0))
    answer = asked.answer(asked.ids(asked.offered), asked.ids(asked.required))
    as_fast = [mask for mask in asked.possible() if asked.gbps(mask) >= asked.gbps(answer)]
    assert (answer & asked.known.crowded).bit_count() == min((mask & asked.known.crowded).bit_count() for mask in as_fast)


@given(requests(required=False))
def test_prediction_is_the_answer_of_the_node(asked: Asked) -> None:
    assert asked.predicted() == asked.answer(asked.ids(asked.offered), ())
