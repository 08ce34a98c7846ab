"""A bundled platform as the configuration of NVIDIA's mock of NVML (NVIDIA/k8s-test-infra, pkg/gpu/mocknvml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from topology.machine.hardware import Machine

_LEVELS = {"PIX": 10, "PXB": 20, "PHB": 30, "NODE": 40, "SYS": 50}
"""nvmlGpuTopologyLevel_t."""
_NVLINK_VERSIONS = {1: 1, 2: 2, 3: 4, 4: 6, 5: 7}
"""NVLink generation -> NVML_NVLINK_VERSION_*. Source: nvml.h."""
_CAPABILITIES = {
    "P100": (6, 0, "pascal"),
    "V100": (7, 0, "volta"),
    "T4": (7, 5, "turing"),
    "A100": (8, 0, "ampere"),
    "L40S": (8, 9, "ada"),
    "H100": (9, 0, "hopper"),
    "H200": (9, 0, "hopper"),
}
_BUSES = ("1a", "1b", "4a", "4b", "8a", "8b", "ca", "cb")
MOST_GPUS = len(_BUSES)
_SWITCHES = tuple(f"0000:{bus:02X}:00.0" for bus in range(5, 11))
_RESERVED_BYTES = 1 << 29


def uuid(index: int) -> str:
    """The uuid of a mock GPU."""
    return f"GPU-{index:08x}-1111-2222-3333-444444444444"


def bus_id(index: int) -> str:
    """Its PCI address, as the kernel writes it."""
    return f"0000:{_BUSES[index]}:00.0"


def configuration(machine: Machine, template: Path, used_bytes: dict[int, int]) -> dict[str, Any]:
    """The mock's configuration. `template`: the mock's own configuration of an H100. `used_bytes`: memory in use by GPU, 0 elsewhere."""
    config: dict[str, Any] = yaml.safe_load(template.read_text())
    first, count = machine.gpus[0], len(machine.gpus)
    assert count <= MOST_GPUS, f"the lab has at most {MOST_GPUS} GPUs"
    major, minor, name = next((found for key, found in _CAPABILITIES.items() if key in (first.product or "")), (8, 6, "ampere"))
    defaults = config["device_defaults"]
    defaults.pop("fabric", None)
    total = first.memory_bytes or 80 << 30
    defaults |= {"name": first.product, "architecture": name, "compute_capability": {"major": major, "minor": minor}}
    defaults["memory"] |= {"total_bytes": total, "reserved_bytes": _RESERVED_BYTES, "free_bytes": total - _RESERVED_BYTES, "used_bytes": 0}
    generation = first.pcie_generation or 4
    defaults["pcie"] |= {"max_link_gen": generation, "current_link_gen": generation}
    config["devices"] = [_device(defaults, index, used_bytes.get(index, 0)) for index in range(count)]
    links = [_links(machine, index) for index in range(count)]
    if any(entry["links"] for entry in links):
        switched = any(gpu.switch_links for gpu in machine.gpus)
        config["nvlink"] = {
            "version": _NVLINK_VERSIONS[first.nvlink_generation or 3],
            "links_per_gpu": max(len(entry["links"]) for entry in links),
            "bandwidth_per_link_mbps": 25000,
            "c2c_enabled": False,
            "switches": [{"bdf": bus, "uuid": f"NVSwitch-{place}"} for place, bus in enumerate(_SWITCHES)] if switched else [],
            "device_links": links,
        }
    else:
        config.pop("nvlink", None)
    nodes = sorted({gpu.numa_node or 0 for gpu in machine.gpus})
    config["pcie_topology"] = {
        "root_complexes": [
            {
                "id": f"pci0000:{node:02d}",
                "numa_node": node,
                "devices": [bus_id(index).upper() for index, gpu in enumerate(machine.gpus) if (gpu.numa_node or 0) == node],
            }
            for node in nodes
        ]
    }
    return config


def _device(defaults: dict[str, Any], index: int, used_bytes: int) -> dict[str, Any]:
    found = {
        "index": index,
        "uuid": uuid(index),
        "serial": str(1000 + index),
        "minor_number": index,
        "pci": {"bus_id": bus_id(index).upper()},
    }
    if used_bytes:
        memory = defaults["memory"]
        found["memory"] = {**memory, "used_bytes": used_bytes, "free_bytes": memory["free_bytes"] - used_bytes}
    return found


def _links(machine: Machine, index: int) -> dict[str, Any]:
    gpu = machine.gpus[index]
    ends = [("gpu", bus_id(other).upper()) for other, count in enumerate(machine.nvlinks[index]) for _ in range(count)]
    ends += [("switch", _SWITCHES[number % len(_SWITCHES)]) for number in range(gpu.switch_links or 0)]
    return {
        "index": index,
        "links": [
            {"link": number, "state": "active", "remote_device_type": kind, "remote_pci_bus_id": bus}
            for number, (kind, bus) in enumerate(ends)
        ],
    }


def pcie_levels(machine: Machine) -> str:
    """One row of NVML levels per GPU, for a mock that reads MOCK_NVML_PCIE_LEVELS; another one calls all GPUs of one root PIX."""
    count = len(machine.gpus)

    def level(a: int, b: int) -> int:
        path = machine.pcie_paths[a][b]
        return 0 if a == b or path is None else _LEVELS[path.name]

    return "\n".join(" ".join(str(level(a, b)) for b in range(count)) for a in range(count)) + "\n"
