"""Readings of the kernel: the place of PCI devices, their NUMA nodes, the network adapters and the CPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from topology.machine.hardware import Nic, PciePath

_HOST_BRIDGE = re.compile(r"pci[0-9a-f]{4,}:[0-9a-f]{2}$")
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]$")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A network adapter with RDMA, and its place in the PCIe tree."""

    nic: Nic
    chain: tuple[str, ...]
    """See `chain_of`."""


def chain_of(device: Path) -> tuple[str, ...]:
    """Return the path from the host bridge to a PCI device: pci0000:00, 0000:00:01.0, 0000:01:00.0.

    Empty where the device does not exist or has no host bridge.
    """
    try:
        parts = device.resolve(strict=True).parts
    except OSError:
        return ()
    host = next((place for place, part in enumerate(parts) if _HOST_BRIDGE.match(part)), len(parts))
    return tuple(part for part in parts[host:] if _HOST_BRIDGE.match(part) or _ADDRESS.match(part))


def path_between(a: tuple[str, ...], b: tuple[str, ...], a_numa: int | None, b_numa: int | None) -> PciePath | None:
    """Return the class of the path between two chains, as nvidia-smi defines it: through one switch PIX, several switches PXB, the host
    bridge PHB, several host bridges of one NUMA node NODE, across nodes SYS.

    None where a chain or one of the nodes is unknown. Two devices of unknown node count as on one node, as in NCCL (see
    `topology.machine.host_zones`).
    """
    if not a or not b:
        return None
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    if shared == 0:
        if (a_numa is None) != (b_numa is None):
            return None
        return PciePath.NODE if a_numa == b_numa else PciePath.SYS
    if shared == 1:
        return PciePath.PHB
    # below the shared part each chain has a downstream port and the device; more entries are further switches
    return PciePath.PIX if max(len(a), len(b)) - shared <= 2 else PciePath.PXB


class Sysfs:
    """Reads sysfs and proc below a root: `/` unless the host's file system is mounted elsewhere."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def chain(self, bus_id: str | None) -> tuple[str, ...]:
        """Return the chain of the PCI device with a bus id; see `chain_of`."""
        return chain_of(self._root / "sys/bus/pci/devices" / bus_id) if bus_id else ()

    def numa_node(self, bus_id: str | None) -> int | None:
        """Return the device's NUMA node; None where the kernel does not know it (-1)."""
        return self._number(self._root / "sys/bus/pci/devices" / bus_id / "numa_node") if bus_id else None

    def adapters(self) -> tuple[Adapter, ...]:
        """Return the network adapters that have an RDMA device, by name."""
        try:
            entries = sorted((self._root / "sys/class/infiniband").iterdir())
        except OSError:
            return ()
        return tuple(
            Adapter(Nic(f"NIC{number}", entry.name, self._number(entry / "device/numa_node")), chain_of(entry / "device"))
            for number, entry in enumerate(entries)
        )

    def cpu_model(self) -> str | None:
        """Return vendor and model, such as `Intel Xeon Platinum 8480C`; None where unknown."""
        try:
            text = (self._root / "proc/cpuinfo").read_text(errors="replace")
        except OSError:
            return None
        facts = dict(re.findall(r"^([^:\n]+?)\s*:\s*(.*)$", text, re.MULTILINE))
        model = facts.get("model name") or facts.get("cpu")
        vendor = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}.get(facts.get("vendor_id", ""), "")
        if model is None:  # on Arm the kernel reports implementer and part only
            return f"ARM implementer {facts['CPU implementer']} part {facts.get('CPU part', '?')}" if "CPU implementer" in facts else None
        plain = " ".join(re.sub(r"\((R|TM)\)|CPU @.*$|\bProcessor\b|\d+-Core", " ", model).split())
        return plain if vendor.lower() in plain.lower() else f"{vendor} {plain}"

    @staticmethod
    def _number(path: Path) -> int | None:
        try:
            value = int(path.read_text())
        except (OSError, ValueError):
            return None
        return value if value >= 0 else None
