"""GpuTopology: what goes in comes out; what contradicts itself is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines
from tests.topology.crd_bounds import bounds, codec_schema, crd_schema
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord, free_mask
from topology.machine.hardware import Machine, TopologyError
from topology.platforms import machine_of, platforms


@given(machines(nics=True), st.data())
def test_round_trip(machine: Machine, data: st.DataObject) -> None:
    indices = [gpu.index for gpu in machine.gpus]
    held = data.draw(st.sets(st.sampled_from(indices)))
    status = DeviceStatus(
        free=tuple(i for i in indices if i not in held),
        allocated=tuple(Allocation(i, "uid", "team", "pod") for i in sorted(held)),
        unhealthy=((indices[0], "Xid 79"),),
        observed_at_seconds=data.draw(st.integers(0, 2**32)) / 8,
    )
    for record in (TopologyRecord("node", machine), TopologyRecord("node", machine, status)):
        assert decode(encode(record)) == record
        assert decode(yaml.safe_load(yaml.safe_dump(encode(record)))) == record


@pytest.mark.parametrize("platform", list(platforms()))
def test_platforms_round_trip(platform: str) -> None:
    record = TopologyRecord(platform, machine_of(platform, "x"))
    assert decode(encode(record)) == record


def test_summary_fields_for_the_printer_columns() -> None:
    manifest = encode(TopologyRecord("n", machine_of("a100-pcie-bridge-pairs"), DeviceStatus(free=(0, 2, 3))))
    assert manifest["spec"]["gpuCount"] == 8
    assert manifest["spec"]["fabric"] == "NV12 pairs"
    assert manifest["status"]["freeCount"] == 3
    assert manifest["status"]["best2Gbps"] == 240.0
    assert "best4Gbps" not in manifest["status"], "four are not free"


def test_free_is_all_but_held_and_unhealthy_unless_the_status_says() -> None:
    machine = machine_of("t4")
    assert free_mask(machine, None) == 0b1111
    assert free_mask(machine, DeviceStatus(None, (Allocation(1),), ((3, "Xid 48"),))) == 0b0101
    assert free_mask(machine, DeviceStatus((0, 3), (), ((3, "Xid 48"),))) == 0b0001
    assert free_mask(machine, DeviceStatus(None, (Allocation(1), Allocation(1)), ((1, "Xid 48"),))) == 0b1101, "held and sick at once"
    assert free_mask(machine, DeviceStatus((0, 0))) == 0b0001


def change(path: str, value: Any) -> dict[str, Any]:
    """A valid manifest with one field replaced."""
    manifest = encode(TopologyRecord("n", machine_of("t4"), DeviceStatus(free=(0, 1))))
    *way, last = path.split(".")
    place: Any = manifest
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = value
    return manifest


WRONG = {
    "spec.gpuCount": (9, "spec.gpuCount is 9 but spec.gpus lists 4"),
    "spec.pciePaths": (["X PIX"], "pciePaths must be 4 x 4"),
    "spec.nvlinks": (["0 1 0 0", "0 0 0 0", "0 0 0 0", "0 0 0 0"], "nvlinks is not symmetric"),
    "spec.gpus": (None, "spec.gpus"),
    "spec.gpus.1": ({"index": 0}, "GPU indices repeat"),
    "status.free": ([0, 7], "status.free names GPU 7"),
    "status.allocated": ([{"index": 0}], "GPU 0 is both in status.free and in status.allocated"),
    "status.observedAt": ("yesterday", "'yesterday' is not an RFC 3339 time"),
    "status.unhealthy": ([{"index": 5}], "status.unhealthy names GPU 5"),
    "metadata": ({}, "name"),
}


@pytest.mark.parametrize("path", WRONG)
def test_contradictions_are_named(path: str) -> None:
    value, message = WRONG[path]
    with pytest.raises(TopologyError) as error:
        decode(change(path, value))
    assert message in str(error.value)


@pytest.mark.parametrize("row", ["X PIG PIX PIX", "? ? ? ? ?"])
def test_wrong_path_cells(row: str) -> None:
    with pytest.raises(TopologyError, match="pciePaths"):
        decode(change("spec.pciePaths", [row] * 4))


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_anything_is_decoded_or_refused(manifest: object) -> None:
    with pytest.raises(TopologyError):
        decode(manifest)


def test_crd_and_decoder_state_the_same_bounds_for_every_field() -> None:
    assert dict(bounds(crd_schema())) == dict(bounds(codec_schema()))


HOSTILE = {
    "spec.gpus.0.switchLinks": (-1, 10_000_000),
    "spec.gpus.0.pcieWidth": (-16, 0, 33),
    "spec.gpus.0.memoryBytes": (0, -1, 1 << 62),
    "spec.gpus.0.numaNode": (-1, 1 << 40),
    "spec.gpus.0.index": (-1, 1 << 70),
    "spec.nvlinks": (["0 10000000 0 0", "10000000 0 0 0", "0 0 0 0", "0 0 0 0"],),
    "spec.cpuModel": ("x" * 100_000,),
    "status.observedAt": ("2026-05-01T08:00:00", "2026-02-30T08:00:00Z", "2026-05-01"),
}


@pytest.mark.parametrize("path", HOSTILE)
def test_decoder_refuses_values_out_of_bounds_and_names_the_field(path: str) -> None:
    for value in HOSTILE[path]:
        with pytest.raises(TopologyError) as error:
            decode(change(path, value))
        assert path.replace(".0.", "[0].").removeprefix("spec.").split(".")[-1] in str(error.value)
        assert len(str(error.value)) < 500


def test_decoder_accepts_36_links_and_nvlink_generation_6() -> None:
    manifest = change("spec.gpus.0.switchLinks", 36)
    manifest["spec"]["gpus"][0]["nvlinkGeneration"] = 6
    assert decode(manifest).machine.gpus[0].switch_links == 36
