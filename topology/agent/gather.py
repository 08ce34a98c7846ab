"""Driver and kernel readings -> a Machine and the health of its GPUs. Only the `Sysfs` argument does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from topology.agent.nvml import DriverReading, GpuReading
from topology.agent.sysfs import Adapter, Sysfs, path_between
from topology.gputopology.topology_record import Health
from topology.machine.hardware import Gpu, Machine, Matrix, PciePath


@dataclass(frozen=True, slots=True)
class Gathered:
    """The hardware of a node at one time."""

    machine: Machine
    health: tuple[Health, ...] = ()
    unhealthy: tuple[tuple[int, str], ...] = ()
    """(index, reason) per GPU that must not be used."""


def gather(driver: DriverReading, kernel: Sysfs) -> Gathered:
    """Return the hardware of a node. A lost GPU stays in the machine, without links, and is unhealthy."""
    adapters = kernel.adapters()
    machine = Machine(
        gpus=tuple(_gpu(driver, gpu, kernel) for gpu in driver.gpus),
        nics=tuple(adapter.nic for adapter in adapters),
        pcie_paths=_paths(driver, kernel, adapters),
        nvlinks=_nvlinks(driver),
        cpu_model=kernel.cpu_model(),
        peer_to_peer=_peer_to_peer(driver),
        driver_version=driver.driver_version,
        cuda_version=driver.cuda_version,
    )
    reached = [gpu for gpu in driver.gpus if gpu.lost is None]
    return Gathered(machine, tuple(map(_health, reached)), tuple((gpu.index, why) for gpu in driver.gpus if (why := _why_unhealthy(gpu))))


def _gpu(driver: DriverReading, gpu: GpuReading, kernel: Sysfs) -> Gpu:
    up = [link for link in gpu.links if link.up]
    states_known = bool(gpu.links) and all(link.up is not None for link in gpu.links)
    return Gpu(
        index=gpu.index,
        uuid=gpu.uuid,
        product=gpu.product,
        memory_bytes=gpu.memory_bytes,
        pci_bus_id=gpu.pci_bus_id,
        numa_node=_numa(gpu, kernel),
        cpu_affinity=gpu.cpu_affinity,
        mig_enabled=gpu.mig_enabled,
        pcie_generation=gpu.pcie_generation,
        pcie_width=gpu.pcie_width,
        nvlink_generation=driver.nvlink_generation(gpu),
        switch_links=sum(_ends_in_switch(driver, link.to_switch, link.remote_bus_id) for link in up) if gpu.lost is None else None,
        dead_links=len(gpu.links) - len(up) if states_known else None,
        one_sided_links=_one_sided(driver, gpu) if states_known else None,
        compute_capability=gpu.compute_capability,
        ecc_enabled=gpu.ecc_enabled,
        persistence_mode=gpu.persistence_mode,
        mig_instances=gpu.mig_instances,
        fabric_domain=gpu.fabric_domain,
    )


def _ends_in_switch(driver: DriverReading, to_switch: bool | None, remote_bus_id: str | None) -> bool:
    """As the driver reports it. Where the driver is too old for that, a link that ends in none of the GPUs ends in a switch."""
    if to_switch is not None:
        return to_switch
    return remote_bus_id is not None and remote_bus_id not in {gpu.pci_bus_id for gpu in driver.gpus}


def _nvlinks(driver: DriverReading) -> tuple[tuple[int, ...], ...]:
    """Direct links per pair that both ends report as up."""
    return tuple(tuple(min(_links_up(gpu, other), _links_up(other, gpu)) for other in driver.gpus) for gpu in driver.gpus)


def _links_up(gpu: GpuReading, other: GpuReading) -> int:
    """Direct links to `other` that `gpu` reports as up."""
    if other.pci_bus_id is None or gpu is other:
        return 0
    return sum(bool(link.up) and not link.to_switch and link.remote_bus_id == other.pci_bus_id for link in gpu.links)


def _one_sided(driver: DriverReading, gpu: GpuReading) -> int:
    """Direct links that only the other GPU reports as up."""
    return sum(max(0, _links_up(other, gpu) - _links_up(gpu, other)) for other in driver.gpus)


def _paths(driver: DriverReading, kernel: Sysfs, adapters: tuple[Adapter, ...]) -> Matrix:
    """PCIe classes over GPUs then NICs, from the kernel's tree. NVML's class is used only where the kernel does not show a device, because
    hypervisors invent what NVML reads."""
    count = len(driver.gpus)
    chains = [kernel.chain(gpu.pci_bus_id) for gpu in driver.gpus] + [adapter.chain for adapter in adapters]
    numa = [_numa(gpu, kernel) for gpu in driver.gpus] + [adapter.nic.numa_node for adapter in adapters]
    cells: list[list[PciePath | None]] = [[None] * len(chains) for _ in chains]
    for i, j in combinations(range(len(chains)), 2):
        by_driver = driver.paths.get((driver.gpus[i].index, driver.gpus[j].index)) if j < count else None
        cells[i][j] = cells[j][i] = path_between(chains[i], chains[j], numa[i], numa[j]) or by_driver
    return tuple(map(tuple, cells))


def _numa(gpu: GpuReading, kernel: Sysfs) -> int | None:
    """The NUMA node of the host. NVML reports another number: that of the GPU's memory, where it is a NUMA node (GB200)."""
    return kernel.numa_node(gpu.pci_bus_id)


def _peer_to_peer(driver: DriverReading) -> bool | None:
    """Whether peer-to-peer works over PCIe, for the pairs without NVLink. None where no such pair has a known state."""
    links, place = _nvlinks(driver), {gpu.index: at for at, gpu in enumerate(driver.gpus)}
    states = [works for (a, b), works in driver.peer_to_peer.items() if not links[place[a]][place[b]] and not _switched(driver, a, b)]
    return all(states) if states else None


def _switched(driver: DriverReading, a: int, b: int) -> bool:
    ends = [gpu for gpu in driver.gpus if gpu.index in (a, b)]
    return all(any(bool(link.up) and _ends_in_switch(driver, link.to_switch, link.remote_bus_id) for link in gpu.links) for gpu in ends)


def _health(gpu: GpuReading) -> Health:
    return Health(
        index=gpu.index,
        ecc_volatile=gpu.ecc_volatile,
        ecc_aggregate=gpu.ecc_aggregate,
        retirement_pending=gpu.retirement_pending,
        remap_failed=gpu.remap_failed,
        throttle_reasons=gpu.throttle_reasons,
    )


def _why_unhealthy(gpu: GpuReading) -> str | None:
    """Why a GPU must not be used; None where it can be. Pending retirements are no reason: the memory works until the next reset."""
    if gpu.lost is not None:
        return gpu.lost
    if gpu.remap_failed:
        return "memory row could not be remapped"
    if gpu.ecc_volatile:
        return f"{gpu.ecc_volatile} double-bit memory errors"
    return None
