"""A small pynvml: the questions the agent asks, answered for a machine out of the bundled platforms, and what can go wrong.

Errors are those of the real module; what is not here is not known, as with a library older than a question.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

from topology.machine.hardware import Machine, PciePath

VERSIONS = {1: 1, 2: 2, 3: 4, 4: 6, 5: 7, 6: 8}
LEVELS = {PciePath.PIX: 10, PciePath.PXB: 20, PciePath.PHB: 30, PciePath.NODE: 40, PciePath.SYS: 50}
MAJOR = {"V100": (7, 0), "P100": (6, 0), "A100": (8, 0), "H100": (9, 0), "H200": (9, 0), "B200": (10, 0), "T4": (7, 5), "L40S": (8, 9)}


def error(code: int) -> Exception:
    """The real exception of an NVML error code."""
    made: Exception = pynvml.NVMLError(code)  # type: ignore[no-untyped-call]
    return made


@dataclass
class FakeNvml:
    """`topology.agent.nvml.pynvml` for tests."""

    machine: Machine
    lost: set[int] = field(default_factory=set)
    """GPUs that fell off the bus before the library was started."""
    dying: set[int] = field(default_factory=set)
    """GPUs that fall off once their handle is made."""
    unsupported: set[str] = field(default_factory=set)
    """Questions this driver does not support."""
    dead: set[tuple[int, int]] = field(default_factory=set)
    """(GPU, link) that are not up."""
    unreadable: set[tuple[int, int]] = field(default_factory=set)
    """(GPU, link) whose state the driver does not tell."""
    double_bit: dict[int, int] = field(default_factory=dict)
    remap_failed: set[int] = field(default_factory=set)
    mig: dict[int, tuple[tuple[str, str, int], ...]] = field(default_factory=dict)
    """GPU -> its instances: uuid, profile, bytes."""
    without_link_types: bool = False
    absent: bool = False
    peers_work: bool = True

    fabric: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """GPU -> cluster uuid as hex digits, clique, state."""

    c_nvmlGpuFabricInfo_t = pynvml.c_nvmlGpuFabricInfo_t
    NVMLError = pynvml.NVMLError
    NVML_ERROR_GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "unsupported"):

            def refuse(*_arguments: object) -> None:
                raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)

            return refuse
        return object.__getattribute__(self, name)

    def _alive(self, handle: int) -> Any:
        if handle in self.dying:
            raise error(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.machine.gpus[handle]

    def nvmlInit(self) -> None:
        if self.absent:
            raise error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12080

    def nvmlDeviceGetCount(self) -> int:
        return len(self.machine.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise error(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        if isinstance(handle, tuple):
            return str(handle[0])
        self._alive(handle)
        return f"GPU-{handle:08d}"

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return f"NVIDIA MIG {handle[1]}" if isinstance(handle, tuple) else str(self._alive(handle).product)

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        return SimpleNamespace(total=handle[2] if isinstance(handle, tuple) else self._alive(handle).memory_bytes)

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        self._alive(handle)
        return SimpleNamespace(busId=pci(handle).upper().encode())

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        product = str(self._alive(handle).product)
        return next((major for name, major in MAJOR.items() if name in product), (8, 6))

    def nvmlDeviceGetNumaNodeId(self, handle: int) -> int:
        self._alive(handle)
        raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlDeviceGetCpuAffinity(self, handle: int, words: int) -> list[int]:
        first = 0xFFFF if self._alive(handle).numa_node == 0 else 0xFFFF0000
        return [first, 0, first, *[0] * (words - 3)]

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: int) -> int:
        return int(self._alive(handle).pcie_generation or 4)

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: int) -> int:
        self._alive(handle)
        return 16

    def nvmlDeviceGetMigMode(self, handle: int) -> tuple[int, int]:
        self._alive(handle)
        return (int(handle in self.mig),) * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, number: int) -> tuple[str, str, int]:
        instances = self.mig[handle]
        if number >= len(instances):
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return instances[number]

    def nvmlDeviceGetPersistenceMode(self, handle: int) -> int:
        self._alive(handle)
        return 1

    def nvmlDeviceGetEccMode(self, handle: int) -> list[int]:
        self._alive(handle)
        return [1, 1]

    def nvmlDeviceGetTotalEccErrors(self, handle: int, _kind: int, _counter: int) -> int:
        self._alive(handle)
        return self.double_bit.get(handle, 0)

    def nvmlDeviceGetRemappedRows(self, handle: int) -> tuple[int, int, int, int]:
        self._alive(handle)
        return 0, 0, 0, int(handle in self.remap_failed)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        self._alive(handle)
        return 0x1 | 0x40

    def nvmlDeviceGetGpuFabricInfo(self, handle: int, reference: Any) -> int:
        self._alive(handle)
        if handle not in self.fabric:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        cluster, clique, state = self.fabric[handle]
        info = reference._obj
        info.clusterUuid[:] = bytes.fromhex(cluster)
        info.cliqueId, info.state = clique, state
        return 0

    def nvmlDeviceGetTopologyCommonAncestor(self, a: int, b: int) -> int:
        self._alive(a), self._alive(b)
        path = self.machine.pcie_paths[a][b]
        assert path is not None
        return LEVELS[path]

    def nvmlDeviceGetP2PStatus(self, a: int, b: int, _capability: int) -> int:
        self._alive(a), self._alive(b)
        return 0 if self.peers_work or self._ends(a) & self._ends(b) else 1

    def _ends(self, handle: int) -> set[str]:
        return {end for end in self._links(handle) if end == "switch"}

    def _links(self, handle: int) -> list[str]:
        """What each link ends in: a GPU's bus id, or `switch`."""
        ends = [pci(other) for other, count in enumerate(self.machine.nvlinks[handle]) for _ in range(count)]
        return ends + ["switch"] * (self.machine.gpus[handle].switch_links or 0)

    def _link(self, handle: int, number: int) -> str:
        self._alive(handle)
        links = self._links(handle)
        if number >= len(links):
            raise error(pynvml.NVML_ERROR_INVALID_ARGUMENT if links else pynvml.NVML_ERROR_NOT_SUPPORTED)
        return links[number]

    def nvmlDeviceGetNvLinkState(self, handle: int, number: int) -> int:
        self._link(handle, number)
        if (handle, number) in self.unreadable:
            raise error(pynvml.NVML_ERROR_UNKNOWN)
        return int((handle, number) not in self.dead)

    def nvmlDeviceGetNvLinkVersion(self, handle: int, number: int) -> int:
        self._link(handle, number)
        return VERSIONS[self.machine.gpus[handle].nvlink_generation or 3]

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: int, number: int) -> int:
        if self.without_link_types:
            raise error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return 2 if self._link(handle, number) == "switch" else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, number: int) -> Any:
        end = self._link(handle, number)
        return SimpleNamespace(busId=(f"00000000:C{number % 6}:00.0" if end == "switch" else f"0000{end}").encode())


def pci(index: int) -> str:
    """The bus id of a fake GPU, as the kernel writes it."""
    return f"0000:{0x10 + index:02x}:00.0"
