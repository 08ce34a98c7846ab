"""Readings of the driver about the node's GPUs, through NVML. The only importer of pynvml.

A query that fails leaves one fact None, and a broken GPU affects only its own readings: what the driver does not support, or
does not answer for a GPU that fell off the bus, is None. Only a missing NVML is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref
from dataclasses import dataclass, field
from typing import Any

import pynvml as _pynvml

from topology.machine.hardware import FabricDomain, MigInstance, PciePath, TopologyError

pynvml: Any = _pynvml  # it has no types

LOST = "GPU is lost"
"""The reason of a GPU that the driver can no longer reach: it fell off the bus (Xid 79)."""

_PATHS = {0: PciePath.PIX, 10: PciePath.PIX, 20: PciePath.PXB, 30: PciePath.PHB, 40: PciePath.NODE, 50: PciePath.SYS}
"""By nvmlGpuTopologyLevel_t: internal (one board), single, multiple, host bridge, node, system."""

_GENERATIONS = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6}
"""NVML_NVLINK_VERSION_*: 1.0, 2.0, 2.2, 3.0, 3.1, 4.0, 5.0, 6.0. Source: nvml.h. Another version has no known generation."""

_GPU, _NPU, _SWITCH = 0, 1, 2
"""nvmlIntNvLinkDeviceType_t."""

_FABRIC_STATES = {1: "not_started", 2: "in_progress", 3: "completed"}

_THROTTLES = {
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
"""nvmlClocksEventReasons bits, but for idle. Source: nvml.h."""

_LEAST_LINK_BOUND = 36
"""NVML_NVLINK_MAX_LINKS of nvml.h 13. A higher bound of the installed library is used instead."""

_NO_SUCH_LINK = frozenset({_pynvml.NVML_ERROR_INVALID_ARGUMENT, _pynvml.NVML_ERROR_NOT_SUPPORTED, _pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})
"""Errors of NVML that mean: the GPU has no link with this number (invalid argument), or no NVLink (not supported)."""


class NvmlUnavailableError(TopologyError):
    """NVML is missing or cannot be started; the message says why."""


@dataclass(frozen=True, slots=True)
class NvLink:
    """One NVLink of a GPU."""

    up: bool | None
    """None = the driver does not report whether the link is up."""
    version: int | None
    to_switch: bool | None
    remote_bus_id: str | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """Readings of one GPU. `lost` is why the driver cannot reach it; the other fields are then from before."""

    index: int
    lost: str | None = None
    uuid: str | None = None
    product: str | None = None
    memory_bytes: int | None = None
    pci_bus_id: str | None = None
    compute_capability: str | None = None
    cpu_affinity: str | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    mig_enabled: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    persistence_mode: bool | None = None
    ecc_enabled: bool | None = None
    ecc_volatile: int | None = None
    ecc_aggregate: int | None = None
    retirement_pending: bool | None = None
    remap_failed: bool | None = None
    throttle_reasons: tuple[str, ...] = ()
    links: tuple[NvLink, ...] = ()
    fabric_domain: FabricDomain | None = None


@dataclass(frozen=True, slots=True)
class DriverReading:
    """Readings of the node."""

    gpus: tuple[GpuReading, ...]
    driver_version: str | None = None
    cuda_version: str | None = None
    paths: dict[tuple[int, int], PciePath] = field(default_factory=dict)
    """PCIe class per pair of NVML indices, smaller first."""
    peer_to_peer: dict[tuple[int, int], bool] = field(default_factory=dict)
    """Whether one GPU can read the memory of the other, by the same pairs."""

    def nvlink_generation(self, gpu: GpuReading) -> int | None:
        """Return the NVLink generation by the version of the GPU's links; None where unknown."""
        versions = [_GENERATIONS[link.version] for link in gpu.links if link.version in _GENERATIONS]
        return min(versions) if versions else None


def read_driver() -> DriverReading:
    """Read everything once. Raises NvmlUnavailableError where NVML cannot be started."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailableError(f"NVML cannot be started: {error}") from error
    try:
        return _read()
    finally:
        _query(pynvml.nvmlShutdown)


def _query(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or None where the driver, the GPU or this version of the library does not support the query."""
    try:
        return function(*arguments)
    except (pynvml.NVMLError, AttributeError, TypeError, ValueError):
        return None


def _call(name: str, *arguments: Any) -> Any:
    """`_query` by name: older libraries lack newer functions."""
    return _query(getattr(pynvml, name), *arguments) if hasattr(pynvml, name) else None


def _read() -> DriverReading:
    count = _call("nvmlDeviceGetCount") or 0
    handles = {index: _handle(index) for index in range(count)}
    live = {index: handle for index, handle in handles.items() if not isinstance(handle, str)}
    gpus = tuple(_gpu(index, live[index]) if index in live else GpuReading(index, lost=str(handles[index])) for index in handles)
    reached = [gpu.index for gpu in gpus if gpu.lost is None]
    pairs = [(a, b) for a in reached for b in reached if a < b]
    paths = {pair: _PATHS.get(_call("nvmlDeviceGetTopologyCommonAncestor", live[pair[0]], live[pair[1]])) for pair in pairs}
    peers = {pair: _call("nvmlDeviceGetP2PStatus", live[pair[0]], live[pair[1]], 0) for pair in pairs}
    return DriverReading(
        gpus=gpus,
        driver_version=_text(_call("nvmlSystemGetDriverVersion")),
        cuda_version=_cuda(_call("nvmlSystemGetCudaDriverVersion")),
        paths={pair: path for pair, path in paths.items() if path is not None},
        peer_to_peer={pair: status == 0 for pair, status in peers.items() if status is not None},
    )


def _handle(index: int) -> Any:
    """A handle, or a text that says why there is none."""
    try:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return LOST if error.value == pynvml.NVML_ERROR_GPU_IS_LOST else f"the driver does not reach it: {error}"


def _lost(handle: Any) -> bool:
    """Whether the GPU fell off the bus after its handle was created: every query then reports it."""
    try:
        pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        return bool(error.value == pynvml.NVML_ERROR_GPU_IS_LOST)
    return False


def _gpu(index: int, handle: Any) -> GpuReading:
    pci, memory = _call("nvmlDeviceGetPciInfo", handle), _call("nvmlDeviceGetMemoryInfo", handle)
    capability, remapped = _call("nvmlDeviceGetCudaComputeCapability", handle), _call("nvmlDeviceGetRemappedRows", handle)
    mig, ecc = _call("nvmlDeviceGetMigMode", handle), _call("nvmlDeviceGetEccMode", handle)
    retired = _call("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    return GpuReading(
        index=index,
        lost=LOST if _lost(handle) else None,
        uuid=_text(_call("nvmlDeviceGetUUID", handle)),
        product=_text(_call("nvmlDeviceGetName", handle)),
        memory_bytes=int(memory.total) if memory is not None else None,
        pci_bus_id=bus_id(_text(pci.busId)) if pci is not None else None,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        cpu_affinity=_cpulist(_call("nvmlDeviceGetCpuAffinity", handle, 32)),
        pcie_generation=_natural(_call("nvmlDeviceGetMaxPcieLinkGeneration", handle)) or None,
        pcie_width=_natural(_call("nvmlDeviceGetMaxPcieLinkWidth", handle)) or None,
        mig_enabled=bool(mig[0]) if mig else None,
        mig_instances=_mig_instances(handle) if mig and mig[0] else (),
        persistence_mode=_flag(_call("nvmlDeviceGetPersistenceMode", handle)),
        ecc_enabled=_flag(ecc[0]) if ecc else None,
        ecc_volatile=_natural(_call("nvmlDeviceGetTotalEccErrors", handle, 1, 0)),
        ecc_aggregate=_natural(_call("nvmlDeviceGetTotalEccErrors", handle, 1, 1)),
        retirement_pending=bool(remapped[2]) or bool(retired) if remapped else _flag(retired),
        remap_failed=bool(remapped[3]) if remapped else None,
        throttle_reasons=_throttles(_call("nvmlDeviceGetCurrentClocksThrottleReasons", handle)),
        links=tuple(link for number in range(_link_bound()) if (link := _link(handle, number)) is not None),
        fabric_domain=_fabric_domain(handle),
    )


def _link_bound() -> int:
    return max(_LEAST_LINK_BOUND, int(getattr(pynvml, "NVML_NVLINK_MAX_LINKS", 0)))


def _link(handle: Any, number: int) -> NvLink | None:
    """None where the GPU has no such link. Only the query for the state shows that; others succeed for any number below the bound."""
    try:
        state = pynvml.nvmlDeviceGetNvLinkState(handle, number)
    except pynvml.NVMLError as error:
        return None if error.value in _NO_SUCH_LINK else NvLink(None, None, None, None)
    except AttributeError:  # an older library
        return None
    if not state:
        return NvLink(False, None, None, None)
    kind, remote = _call("nvmlDeviceGetNvLinkRemoteDeviceType", handle, number), _call("nvmlDeviceGetNvLinkRemotePciInfo", handle, number)
    return NvLink(
        up=True,
        version=_call("nvmlDeviceGetNvLinkVersion", handle, number),
        to_switch={_SWITCH: True, _GPU: False, _NPU: False}.get(kind),
        remote_bus_id=bus_id(_text(remote.busId)) if remote is not None else None,
    )


def _mig_instances(handle: Any) -> tuple[MigInstance, ...]:
    instances = []
    for number in range(_call("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        device = _call("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
        uuid = _text(_call("nvmlDeviceGetUUID", device)) if device is not None else None
        if uuid is None:
            continue
        name, memory = _text(_call("nvmlDeviceGetName", device)) or "", _call("nvmlDeviceGetMemoryInfo", device)
        profile = name.rpartition("MIG ")[2] if "MIG " in name else None
        instances.append(MigInstance(uuid, profile, int(memory.total) if memory is not None else None))
    return tuple(instances)


def _fabric_domain(handle: Any) -> FabricDomain | None:
    """None where the GPU is in no multi-node fabric: not supported, or a cluster uuid of zeros."""
    if not hasattr(pynvml, "c_nvmlGpuFabricInfo_t"):
        return None
    info = pynvml.c_nvmlGpuFabricInfo_t()
    if _call("nvmlDeviceGetGpuFabricInfo", handle, byref(info)) is None:
        return None
    digits = bytes(info.clusterUuid).hex()
    if not digits.strip("0") or info.state not in _FABRIC_STATES:
        return None
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return FabricDomain(uuid, int(info.cliqueId), _FABRIC_STATES[info.state])


def bus_id(text: str | None) -> str | None:
    """Return NVML's `00000000:3B:00.0` in the kernel's form, `0000:3b:00.0`; None where it is no bus id."""
    if not text or ":" not in text:
        return None
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:].zfill(4)}:{rest}"


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return str(value) if value else None


def _natural(value: Any) -> int | None:
    """A count; NVML's values for "unknown" (negative, all ones) become None."""
    return int(value) if value is not None and 0 <= int(value) < 0xFFFFFFFF else None


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _cuda(version: Any) -> str | None:
    """12080 -> 12.8."""
    return f"{version // 1000}.{version % 1000 // 10}" if version else None


def _throttles(bits: Any) -> tuple[str, ...]:
    return tuple(name for bit, name in _THROTTLES.items() if bits & bit) if bits else ()


def _cpulist(words: Any) -> str | None:
    """64-bit masks -> `0-31,64-95`."""
    if not words:
        return None
    cpus = [64 * place + bit for place, word in enumerate(words) for bit in range(64) if int(word) >> bit & 1]
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs) or None
