"""Driver and CUDA versions as the node reports them, with leading zeros (550.163.01), for people. Filters compare `NodeFacts`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from topology.machine.hardware import Machine


def reported_driver(labels: Mapping[str, str], machine: Machine | None) -> str | None:
    """Return the driver version by the agent, else by GFD's label, else by GFD's three older labels; None if unknown."""
    reported = (machine.driver_version if machine else None) or labels.get("nvidia.com/cuda.driver-version.full")
    return reported or _joined(labels, "nvidia.com/cuda.driver.", ("major", "minor", "rev"))


def reported_cuda(labels: Mapping[str, str], machine: Machine | None) -> str | None:
    """Return the newest CUDA version that the driver supports, from the same sources; None if unknown."""
    reported = (machine.cuda_version if machine else None) or labels.get("nvidia.com/cuda.runtime-version.full")
    return reported or _joined(labels, "nvidia.com/cuda.runtime.", ("major", "minor"))


def _joined(labels: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> str | None:
    """Return the labels' values joined by dots, up to the first absent label; None if the first is absent."""
    parts: list[str] = []
    for name in names:
        part = labels.get(prefix + name)
        if not part:
            break
        parts.append(part)
    return ".".join(parts) or None


def branch(version: str) -> str:
    """Return the first two parts of a driver version: drivers of one release branch share them."""
    return ".".join(version.split(".")[:2])
