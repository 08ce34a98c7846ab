"""A machine of eight GPUs in bridged pairs, as the agent tells a steerer of it."""

from __future__ import annotations

import time

from topology.devices.facts_file import encode_facts
from topology.devices.steering import KnownDevices, Steering
from topology.devices.steering_table import table_of
from topology.machine.hardware import with_gpus
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

IDS = tuple(f"GPU-{index}" for index in range(8))
GPU = "nvidia.com/gpu"


def facts(known: KnownDevices | None = None) -> bytes:
    """The agent's document about eight GPUs in bridged pairs."""
    machine = machine_of("a100-pcie-bridge-pairs")
    gpus = tuple(with_gpus(machine).gpus)
    named = type(machine)(
        tuple(type(gpu)(**{**{name: getattr(gpu, name) for name in gpu.__slots__}, "uuid": IDS[gpu.index]}) for gpu in gpus),
        machine.nics,
        machine.pcie_paths,
        machine.nvlinks,
    )
    steering = Steering(known or KnownDevices())
    table = table_of(table_for(named), steering)
    assert table is not None
    return encode_facts(named, table, steering, time.time())
