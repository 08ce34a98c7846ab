"""SIGNALS: which metric fills which field of a reading, in which unit, and the question it answers (docs/telemetry.md).

Names and units: NVIDIA, dcgm-exporter `etc/default-counters.csv` and DCGM `dcgm_fields.h`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric."""

    metric: str
    field: str
    read: Callable[[float], float | int | bool | None]
    """Sample value -> value in the field's unit; None for an impossible value."""
    question: str
    adds: bool = False
    """Whether it is added to the other metrics of the same field."""
    rank: int = 0
    """Of several metrics of one field, the one of the highest rank counts."""


def _amount(unit: float, most: float) -> Callable[[float], int | None]:
    return lambda value: int(value * unit) if 0 <= value <= most else None


def _measure(unit: float, least: float, most: float) -> Callable[[float], float | None]:
    return lambda value: value * unit if least <= value <= most else None


MEMORY = _amount(MIB, 1 << 24)  # 16 TiB
_PERCENT = _measure(0.01, 0, 100)
_RATIO = _measure(1, 0, 1)
_CELSIUS = _measure(1, -60, 250)
_WATTS = _measure(1, 0, 100_000)
_COUNT = _amount(1, 1 << 53)
_BYTES = _measure(1, 0, 1e18)


def _flag(value: float) -> bool | None:
    return bool(value) if value in (0, 1) else None


HOLDS = "Memory: what does it hold that Kubernetes does not know of?"
BUSY = "Load: does a process compute on it? Never a reason to refuse."
HEADROOM = "Headroom: is it held back by heat or power?"
BROKEN = "Health: is the hardware broken?"
LINKS = "Links: do they lose data, or carry a neighbour's traffic?"

SIGNALS: tuple[Signal, ...] = (
    Signal("DCGM_FI_DEV_FB_USED", "fb_used_bytes", MEMORY, HOLDS),
    Signal("DCGM_FI_DEV_FB_FREE", "fb_free_bytes", MEMORY, HOLDS),
    Signal("DCGM_FI_DEV_FB_RESERVED", "fb_reserved_bytes", MEMORY, HOLDS),
    Signal("DCGM_FI_DEV_GPU_UTIL", "utilization", _PERCENT, BUSY),
    Signal("DCGM_FI_DEV_MEM_COPY_UTIL", "memory_utilization", _PERCENT, BUSY),
    Signal("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "engine_active", _RATIO, BUSY),
    Signal("DCGM_FI_DEV_GPU_TEMP", "temperature_celsius", _CELSIUS, HEADROOM),
    Signal("DCGM_FI_DEV_MEMORY_TEMP", "memory_temperature_celsius", _CELSIUS, HEADROOM),
    Signal("DCGM_FI_DEV_POWER_USAGE", "power_watts", _WATTS, HEADROOM),
    Signal("DCGM_FI_DEV_POWER_MGMT_LIMIT", "power_limit_watts", _WATTS, HEADROOM),
    Signal("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "power_limit_watts", _WATTS, HEADROOM, rank=1),
    Signal("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "throttle_reasons", _COUNT, HEADROOM),
    Signal("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "throttle_reasons", _COUNT, HEADROOM, rank=1),
    Signal("DCGM_FI_DEV_XID_ERRORS", "xid", _amount(1, 10_000), BROKEN),
    Signal("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "ecc_double_bit", _COUNT, BROKEN),
    Signal("DCGM_FI_DEV_ROW_REMAP_FAILURE", "row_remap_failed", _flag, BROKEN),
    Signal("DCGM_FI_DEV_ROW_REMAP_PENDING", "row_remap_pending", _flag, BROKEN),
    Signal("DCGM_FI_DEV_RETIRED_PENDING", "retirement_pending", _COUNT, BROKEN),
    Signal("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "uncorrectable_remapped_rows", _COUNT, BROKEN),
    Signal("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "correctable_remapped_rows", _COUNT, BROKEN),
    Signal("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "nvlink_bytes", _measure(1, 0, math.inf), LINKS),
    Signal("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "nvlink_crc_errors", _COUNT, LINKS, adds=True),
    Signal("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", "nvlink_crc_errors", _COUNT, LINKS, adds=True),
    Signal("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "nvlink_recovery_errors", _COUNT, LINKS),
    Signal("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "nvlink_replay_errors", _COUNT, LINKS),
    Signal("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "pcie_replays", _COUNT, LINKS),
    Signal("DCGM_FI_PROF_PCIE_TX_BYTES", "pcie_tx_bytes_per_second", _BYTES, LINKS),
    Signal("DCGM_FI_PROF_PCIE_RX_BYTES", "pcie_rx_bytes_per_second", _BYTES, LINKS),
)

FB_TOTAL = "DCGM_FI_DEV_FB_TOTAL"
"""Used, free and reserved framebuffer together, in MiB: some metric lists have it instead of the free memory."""

XID_COUNT = "DCGM_EXP_XID_ERRORS_COUNT"
"""XIDs counted in a window, with the code in label `xid`. A later XID does not hide an earlier one."""

CLOCK_EVENTS = "DCGM_EXP_CLOCK_EVENTS_COUNT"
"""Clock events counted in a window, with the reason in label `clock_event`."""

BY_METRIC = {signal.metric: signal for signal in SIGNALS}
FIELDS = tuple(dict.fromkeys(signal.field for signal in SIGNALS))

THERMAL = 0x20 | 0x40
"""NVML's SW and HW thermal slowdown bits."""
POWER_BRAKE = 0x8 | 0x80
"""HW slowdown and HW power brake: a cause outside the GPU slows it down."""
POWER_CAP = 0x4
"""SW power cap: usual under full load. Source of the bits: NVML, `nvmlClocksThrottleReasons`."""

CLOCK_EVENT_BITS = {"hw_thermal": 0x40, "sw_thermal": 0x20, "hw_power_brake": 0x80, "hw_slowdown": 0x8, "power_cap": 0x4}
"""dcgm-exporter's names in label `clock_event`."""

_BLANKS = frozenset(float(base + code) for base in (0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0, 1 << 47) for code in range(4))


def blank(value: float) -> bool:
    """Whether a value means "no value" in DCGM: its int32, int64 and fp64 blanks (dcgm_structs.h: blank, not found, not supported, not
    permissioned; the int64 ones all round to 2^63 as floats), NaN and infinities."""
    return value in _BLANKS or not math.isfinite(value) or value >= float(1 << 63)
