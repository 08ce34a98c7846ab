"""One reading of a device, of a MIG instance, or of a serving engine. None = not exported, or exported as blank."""

from __future__ import annotations

import msgspec


class DeviceReading(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A GPU, or one MIG instance of it. `uuid` is that of the GPU in both cases, as in DCGM."""

    uuid: str
    mig_instance: int | None = None
    """DCGM's GPU_I_ID; None for the whole GPU."""
    mig_profile: str | None = None
    index: int | None = None
    product: str | None = None
    pci_bus_id: str | None = None
    instance: str | None = None
    """The scrape target, where a Prometheus server names it."""
    node: str | None = None
    """The node, where the target labels of a Prometheus server name it."""
    seen_seconds: float | None = None
    """Unix time of the oldest value, where the source has timestamps."""
    age_seconds: float | None = None
    """Age at the time of the scrape by `seen_seconds`; never negative, also with a wrong clock of the exporter."""

    fb_used_bytes: int | None = None
    fb_free_bytes: int | None = None
    fb_reserved_bytes: int | None = None
    utilization: float | None = None
    """Share of time in which a kernel ran, 0..1."""
    memory_utilization: float | None = None
    """Share of time in which memory was read or written, 0..1."""
    engine_active: float | None = None
    """Share of time in which the graphics or compute engine was active, 0..1. MIG instances have this metric too."""
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    throttle_reasons: int | None = None
    """NVML's bit mask of the reasons why clocks are reduced."""
    xid: int | None = None
    """The last XID; 0 = none since the driver was loaded."""
    recent_xids: tuple[int, ...] = ()
    """XIDs counted within the exporter's window."""
    ecc_double_bit: int | None = None
    """Double-bit errors since the driver was loaded."""
    row_remap_failed: bool | None = None
    row_remap_pending: bool | None = None
    retirement_pending: int | None = None
    uncorrectable_remapped_rows: int | None = None
    correctable_remapped_rows: int | None = None
    nvlink_bytes: float | None = None
    """NVLink traffic: a counter."""
    nvlink_crc_errors: int | None = None
    nvlink_recovery_errors: int | None = None
    nvlink_replay_errors: int | None = None
    pcie_replays: int | None = None
    pcie_tx_bytes_per_second: float | None = None
    pcie_rx_bytes_per_second: float | None = None
    pods: tuple[str, ...] = ()
    """namespace/name of the pods that the exporter reports on it."""

    @property
    def fb_total_bytes(self) -> int | None:
        """Sum of used, free and reserved bytes; None where used or free is unknown."""
        if self.fb_used_bytes is None or self.fb_free_bytes is None:
            return None
        return self.fb_used_bytes + self.fb_free_bytes + (self.fb_reserved_bytes or 0)


class EngineReading(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A serving engine, per served model."""

    engine: str
    """A key of `engines.SUPPORTED_ENGINES`."""
    model: str | None = None
    kv_cache_usage: float | None = None
    """Share of KV cache blocks in use, 0..1, of the rank with the highest share."""
    requests_waiting: float | None = None
    requests_running: float | None = None
    pod: str | None = None
    """namespace/name, where a Prometheus server names it."""
