"""Versions of driver and CUDA as the node reports them, leading zeros kept: 550.163.01. For people; comparisons use `NodeFacts`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from topology.machine.hardware import Machine


def reported_driver(labels: Mapping[str, str], machine: Machine | None) -> str | None:
    """By the agent, else by GFD's label, else by its older three labels."""
    told = (machine.driver_version if machine else None) or labels.get("nvidia.com/cuda.driver-version.full")
    return told or _joined(labels, "nvidia.com/cuda.driver.", ("major", "minor", "rev"))


def reported_cuda(labels: Mapping[str, str], machine: Machine | None) -> str | None:
    """The same of the newest CUDA that the driver serves."""
    told = (machine.cuda_version if machine else None) or labels.get("nvidia.com/cuda.runtime-version.full")
    return told or _joined(labels, "nvidia.com/cuda.runtime.", ("major", "minor"))


def _joined(labels: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> str | None:
    """Labels that go together, joined by dots up to the first that is absent."""
    parts: list[str] = []
    for name in names:
        part = labels.get(prefix + name)
        if not part:
            break
        parts.append(part)
    return ".".join(parts) or None


def branch(version: str) -> str:
    """The first two parts, by which drivers of one release are compared."""
    return ".".join(version.split(".")[:2])
