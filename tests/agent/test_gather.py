"""NVML's answers become the machine they were made from; what goes wrong costs just what it concerns."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from tests.agent.fake_nvml import FakeNvml, pci
from topology.agent import nvml
from topology.agent.gather import Gathered, gather
from topology.agent.nvml import LOST, NvmlUnavailableError, read_driver
from topology.agent.sysfs import Sysfs, path_between
from topology.bandwidth.fabric import build_fabric
from topology.machine.hardware import FabricDomain, MigInstance, PciePath, with_gpus
from topology.nvlink_faults import link_faults
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms


@pytest.fixture
def kernel(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def read(monkeypatch: pytest.MonkeyPatch, fake: FakeNvml, kernel: Sysfs) -> Gathered:
    monkeypatch.setattr(nvml, "pynvml", fake)
    return gather(read_driver(), kernel)


@pytest.mark.parametrize("platform", list(platforms()))
def test_every_platform_is_read_as_it_is(platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = machine_of(platform)
    for index, gpu in enumerate(wanted.gpus):
        folder = tmp_path / "sys/bus/pci/devices" / pci(index)
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{gpu.numa_node}\n")
    found = read(monkeypatch, FakeNvml(wanted), Sysfs(tmp_path)).machine
    assert found.nvlinks == wanted.nvlinks
    assert found.pcie_paths == wanted.pcie_paths
    assert [gpu.switch_links for gpu in found.gpus] == [gpu.switch_links for gpu in wanted.gpus]
    assert [gpu.numa_node for gpu in found.gpus] == [gpu.numa_node for gpu in wanted.gpus]
    assert [gpu.pci_bus_id for gpu in found.gpus] == [pci(index) for index in range(len(wanted.gpus))]
    same = replace(found, cpu_model=wanted.cpu_model, peer_to_peer=wanted.peer_to_peer)
    assert build_fabric(same).capacity_gbps == build_fabric(wanted).capacity_gbps
    assert build_fabric(same).routes == build_fabric(wanted).routes


def test_the_facts_of_a_gpu(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    found = read(monkeypatch, FakeNvml(machine_of("hgx-h100")), kernel)
    gpu = found.machine.gpus[4]
    assert (gpu.uuid, gpu.product, gpu.memory_bytes) == ("GPU-00000004", "NVIDIA H100 80GB HBM3", 80 << 30)
    assert (gpu.compute_capability, gpu.nvlink_generation, gpu.switch_links, gpu.dead_links) == ("9.0", 4, 18, 0)
    assert (gpu.pcie_generation, gpu.pcie_width, gpu.ecc_enabled, gpu.persistence_mode, gpu.mig_enabled) == (5, 16, True, True, False)
    assert gpu.cpu_affinity == "16-31,144-159"
    assert (found.machine.driver_version, found.machine.cuda_version) == ("570.86.15", "12.8")
    assert found.health[4].throttle_reasons == ("hw_thermal",)
    assert found.unhealthy == ()


@pytest.mark.parametrize("how", ["lost", "dying"])
def test_a_lost_gpu_costs_that_gpu(how: str, monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    fake = FakeNvml(machine_of("dgx-1v"))
    setattr(fake, how, {3})
    found = read(monkeypatch, fake, kernel)
    assert found.unhealthy == ((3, LOST),)
    assert len(found.machine.gpus) == 8
    assert set(found.machine.nvlinks[3]) == {0}
    assert found.machine.nvlinks[0][4] == 2
    assert {health.index for health in found.health} == {0, 1, 2, 4, 5, 6, 7}
    assert table_for(found.machine).busbw_gbps(0b110) == 40.0


def test_a_dead_link_is_told_from_a_live_one(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    fake = FakeNvml(machine_of("a100-pcie-bridge-pairs"), dead={(0, 0), (0, 1)})
    found = read(monkeypatch, fake, kernel).machine
    assert found.gpus[0].dead_links == 2
    assert found.nvlinks[0][1] == found.nvlinks[1][0] == 10, "links that both ends report"
    assert [gpu.one_sided_links for gpu in found.gpus] == [2, *[0] * 7]
    assert next((fault.index, fault.up, fault.expected) for fault in link_faults(found)) == (0, 10, 12)


def test_cards_without_a_bridge_have_links_that_are_not_up_and_no_fault(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    every = {(gpu, link) for gpu in range(8) for link in range(12)}
    found = read(monkeypatch, FakeNvml(machine_of("a100-pcie-bridge-pairs"), dead=every), kernel).machine
    assert {gpu.dead_links for gpu in found.gpus} == {12}
    assert link_faults(found) == ()


def test_a_link_whose_state_the_driver_does_not_tell_leaves_the_count_unknown(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    found = read(monkeypatch, FakeNvml(machine_of("hgx-h100"), unreadable={(0, 3)}), kernel).machine
    assert (found.gpus[0].dead_links, found.gpus[0].switch_links) == (None, 17)
    assert found.gpus[1].dead_links == 0


def test_a_gpu_without_nvlink_has_no_count_of_links(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    gpu = read(monkeypatch, FakeNvml(machine_of("t4")), kernel).machine.gpus[0]
    assert (gpu.dead_links, gpu.one_sided_links, gpu.nvlink_generation) == (None, None, None)


def test_all_links_that_nvml_allows_are_read_and_their_generation_known(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    rubin = with_gpus(machine_of("hgx-b200"), switch_links=36, nvlink_generation=6)
    found = read(monkeypatch, FakeNvml(rubin), kernel).machine
    assert {(gpu.switch_links, gpu.dead_links, gpu.nvlink_generation) for gpu in found.gpus} == {(36, 0, 6)}


def test_every_link_version_of_the_library_has_a_generation() -> None:
    """A library that knows a newer version than this reader fails here, not as a link of unknown speed."""
    prefix = "NVML_NVLINK_VERSION_"
    versions = {int(getattr(pynvml, name)): name.removeprefix(prefix) for name in vars(pynvml) if name.startswith(prefix)}
    del versions[pynvml.NVML_NVLINK_VERSION_INVALID]
    assert {version: int(text.split("_")[0]) for version, text in versions.items()} == nvml._GENERATIONS


def test_an_old_driver_that_names_no_remote_type(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    switched = read(monkeypatch, FakeNvml(machine_of("hgx-h100"), without_link_types=True), kernel).machine
    assert {gpu.switch_links for gpu in switched.gpus} == {18}
    direct = read(monkeypatch, FakeNvml(machine_of("dgx-1v"), without_link_types=True), kernel).machine
    assert direct.nvlinks == machine_of("dgx-1v").nvlinks


NEEDED = ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")
QUESTIONS = [name for name in vars(FakeNvml) if name.startswith("nvml") and name not in NEEDED]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_the_driver_does_not_support_costs_that_fact(question: str, monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    found = read(monkeypatch, FakeNvml(machine_of("a100-pcie-bridge-pairs"), unsupported={question}), kernel)
    assert len(found.machine.gpus) == 8
    assert found.unhealthy == ()


def test_errors_of_memory_make_a_gpu_unfit(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    found = read(monkeypatch, FakeNvml(machine_of("t4"), double_bit={1: 3}, remap_failed={2}), kernel)
    assert found.unhealthy == ((1, "3 double-bit memory errors"), (2, "memory row could not be remapped"))
    assert found.health[1].ecc_volatile == 3
    assert found.health[2].remap_failed


def test_mig_instances(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    instances = (("MIG-a", "1g.5gb", 5 << 30), ("MIG-b", "2g.10gb", 10 << 30))
    found = read(monkeypatch, FakeNvml(machine_of("dgx-a100"), mig={1: instances}), kernel)
    assert found.machine.gpus[1].mig_enabled
    assert found.machine.gpus[1].mig_instances == (MigInstance("MIG-a", "1g.5gb", 5 << 30), MigInstance("MIG-b", "2g.10gb", 10 << 30))
    assert not found.machine.gpus[0].mig_enabled


@pytest.mark.parametrize(("works", "told"), [(True, True), (False, False)])
def test_peer_to_peer_is_asked_of_pairs_that_meet_over_pcie(
    works: bool, told: bool, monkeypatch: pytest.MonkeyPatch, kernel: Sysfs
) -> None:
    assert read(monkeypatch, FakeNvml(machine_of("l40s"), peers_work=works), kernel).machine.peer_to_peer is works
    assert read(monkeypatch, FakeNvml(machine_of("hgx-h100"), peers_work=works), kernel).machine.peer_to_peer is None


def test_no_nvml_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "pynvml", FakeNvml(machine_of("t4"), absent=True))
    with pytest.raises(NvmlUnavailableError, match="NVML cannot be started"):
        read_driver()


def test_the_place_in_a_multi_node_fabric(monkeypatch: pytest.MonkeyPatch, kernel: Sysfs) -> None:
    cluster = "0123456789abcdef0123456789abcdef"
    fake = FakeNvml(machine_of("gb200-tray"), fabric={0: (cluster, 7, 3), 1: (cluster, 7, 2), 2: ("00" * 16, 0, 3)})
    gpus = read(monkeypatch, fake, kernel).machine.gpus
    assert gpus[0].fabric_domain == FabricDomain("01234567-89ab-cdef-0123-456789abcdef", 7, "completed")
    assert gpus[1].fabric_domain is not None
    assert gpus[1].fabric_domain.state == "in_progress"
    assert gpus[2].fabric_domain is None, "no cluster at all"
    assert gpus[3].fabric_domain is None, "not supported"


@pytest.mark.parametrize("question", [name for name in vars(FakeNvml) if name.startswith("nvml")])
def test_the_fake_asks_as_the_real_module_does(question: str) -> None:
    """A question that the real module has not, or with other arguments, would be a test of nothing."""
    real = inspect.signature(getattr(pynvml, question))
    fake = [name for name in inspect.signature(getattr(FakeNvml, question)).parameters if name != "self"]
    real.bind(*fake)


# chains as the kernel shows them: host bridge, root port, switch ports, device
GPU_A = ("pci0000:00", "0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0")
NIC_SAME_SWITCH = ("pci0000:00", "0000:00:01.0", "0000:01:00.0", "0000:02:04.0", "0000:04:00.0")
BEHIND_ANOTHER_SWITCH = ("pci0000:00", "0000:00:01.0", "0000:01:00.0", "0000:02:08.0", "0000:05:00.0", "0000:06:00.0", "0000:07:00.0")
SAME_BRIDGE = ("pci0000:00", "0000:00:02.0", "0000:08:00.0")
OTHER_BRIDGE = ("pci0000:40", "0000:40:01.0", "0000:41:00.0")

PATHS = {
    "one switch": (NIC_SAME_SWITCH, 0, PciePath.PIX),
    "several switches": (BEHIND_ANOTHER_SWITCH, 0, PciePath.PXB),
    "the host bridge": (SAME_BRIDGE, 0, PciePath.PHB),
    "another bridge of the node": (OTHER_BRIDGE, 0, PciePath.NODE),
    "another node": (OTHER_BRIDGE, 1, PciePath.SYS),
    "another bridge, node unknown": (OTHER_BRIDGE, None, None),
    "no such device": ((), 0, None),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths_to_adapters(case: str) -> None:
    chain, numa, path = PATHS[case]
    assert path_between(GPU_A, chain, 0, numa) is path
    assert path_between(chain, GPU_A, numa, 0) is path


def test_adapters_and_their_distance_from_sysfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tree as the kernel lays it out: devices under /sys/devices, linked from buses and classes."""
    devices, bus, rdma = tmp_path / "sys/devices", tmp_path / "sys/bus/pci/devices", tmp_path / "sys/class/infiniband"
    bus.mkdir(parents=True)
    rdma.mkdir(parents=True)
    for index in range(4):
        socket = str(index // 2)
        place = devices / f"pci0000:{socket}0/0000:{socket}0:01.0/0000:{socket}1:00.0/0000:{socket}2:0{index}.0" / pci(index)
        place.mkdir(parents=True)
        (place / "numa_node").write_text(socket)
        (bus / pci(index)).symlink_to(place)
    nic = devices / "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:08.0/0000:0a:00.0"
    (nic / "infiniband/mlx5_0").mkdir(parents=True)
    (nic / "numa_node").write_text("0")
    (rdma / "mlx5_0").mkdir()
    (rdma / "mlx5_0/device").symlink_to(nic)
    found = read(monkeypatch, FakeNvml(machine_of("l40s")), Sysfs(tmp_path)).machine
    assert [(nic.name, nic.device, nic.numa_node) for nic in found.nics] == [("NIC0", "mlx5_0", 0)]
    assert [found.pcie_paths[gpu][4] for gpu in range(4)] == [PciePath.PIX, PciePath.PIX, PciePath.SYS, PciePath.SYS]


def kernel_of(root: Path, bridges: list[str], nodes: list[int]) -> Sysfs:
    """A kernel that shows each GPU directly below a host bridge of its own, on the given NUMA nodes (-1 = none)."""
    bus = root / "sys/bus/pci/devices"
    bus.mkdir(parents=True)
    for index, (bridge, node) in enumerate(zip(bridges, nodes, strict=True)):
        place = root / f"sys/devices/{bridge}/{pci(index)}"
        place.mkdir(parents=True)
        (place / "numa_node").write_text(f"{node}\n")
        (bus / pci(index)).symlink_to(place)
    return Sysfs(root)


BRIDGES = [f"pci000{n}:00" for n in range(4)]
# what the kernel shows -> class of GPU 0 and GPU 1, of GPU 0 and GPU 2, whatever NVML says
TREES = {
    "one node, as in a cloud VM": (BRIDGES, [0, 0, 0, 0], PciePath.NODE, PciePath.NODE),
    "no node at all": (BRIDGES, [-1, -1, -1, -1], PciePath.NODE, PciePath.NODE),
    "two nodes": (BRIDGES, [0, 0, 1, 1], PciePath.NODE, PciePath.SYS),
    "one host bridge for pairs": (["pci0000:00", "pci0000:00", "pci0001:00", "pci0001:00"], [0, 0, 0, 0], PciePath.PHB, PciePath.NODE),
}


@pytest.mark.parametrize("word", [PciePath.SYS, PciePath.PHB, PciePath.NODE])
@pytest.mark.parametrize("case", TREES)
def test_classes_between_gpus_come_from_the_kernel_and_not_from_nvml(
    case: str, word: PciePath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bridges, nodes, pair, across = TREES[case]
    gpus = tuple(replace(gpu, numa_node=max(node, 0)) for gpu, node in zip(machine_of("l40s").gpus, nodes, strict=True))
    words = tuple(tuple(None if i == j else word for j in range(4)) for i in range(4))
    found = read(
        monkeypatch, FakeNvml(replace(machine_of("l40s"), gpus=gpus, pcie_paths=words)), kernel_of(tmp_path, bridges, nodes)
    ).machine
    assert (found.pcie_paths[0][1], found.pcie_paths[0][2]) == (pair, across)
    fabric = build_fabric(found)
    assert (fabric.zone[0] == fabric.zone[2]) is (across is not PciePath.SYS)


def test_the_numa_node_of_a_gpus_own_memory_is_not_that_of_its_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GB200: NVML numbers the GPU's memory (2, 10, ...), sysfs the CPU beside it."""
    fake = FakeNvml(
        replace(machine_of("gb200-tray"), gpus=tuple(replace(g, numa_node=2 + 8 * g.index) for g in machine_of("gb200-tray").gpus))
    )
    found = read(monkeypatch, fake, kernel_of(tmp_path, BRIDGES, [0, 0, 1, 1])).machine
    assert [gpu.numa_node for gpu in found.gpus] == [0, 0, 1, 1]


CPUS = {
    "Intel": ("vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz\n", "Intel Xeon Platinum 8480C"),
    "AMD": ("vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654 96-Core Processor\n", "AMD EPYC 9654"),
    "Arm": ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "ARM implementer 0x41 part 0xd4f"),
    "POWER": ("cpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
}


@pytest.mark.parametrize("case", CPUS)
def test_cpu_model(case: str, tmp_path: Path) -> None:
    text, model = CPUS[case]
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert (Sysfs(tmp_path).cpu_model() or "").strip() == model


def test_a_host_without_these_files_is_simply_unknown(tmp_path: Path) -> None:
    assert Sysfs(tmp_path).cpu_model() is None
    assert Sysfs(tmp_path).adapters() == ()
    assert Sysfs(tmp_path).numa_node("0000:01:00.0") is None
