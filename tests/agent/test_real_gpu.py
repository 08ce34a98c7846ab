"""What the agent printed on real GPUs is understood: the captures beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.objects import node, snapshot
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.topology_record import TopologyRecord
from topology.nvlink_faults import link_faults
from topology.placement.shared_tables import table_for

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.yaml"))


def captured_record(capture: Path) -> TopologyRecord:
    return decode(yaml.safe_load(capture.read_text()))


def test_captures_are_there() -> None:
    assert [capture.stem for capture in CAPTURES] == ["h200-vm"]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_capture_of_a_healthy_machine_has_no_link_fault(capture: Path) -> None:
    assert link_faults(captured_record(capture).machine) == ()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_capture_gives_a_node_whose_gpus_can_be_placed(capture: Path) -> None:
    record = captured_record(capture)
    machine = record.machine
    assert table_for(machine).size == len(machine.gpus)
    view = snapshot(node(record.node, len(machine.gpus)), yaml.safe_load(capture.read_text())).views[record.node]
    assert view.problem is None
    assert view.state.free_count == len(machine.gpus)
    assert view.state.gpu_memory_bytes == machine.gpus[0].memory_bytes
    assert "allocations unknown" in view.state.note


def test_virtual_machine_with_one_gpu_states_neither_numa_node_nor_links() -> None:
    (gpu,) = captured_record(CAPTURES[0]).machine.gpus
    assert (gpu.numa_node, gpu.cpu_affinity, gpu.switch_links, gpu.dead_links) == (None, "0-15", 0, None)
