"""Texts of the cells of several tables: bandwidths, sets of GPUs, lists of names."""

from __future__ import annotations

from collections.abc import Sequence


def gbps(value: float | None) -> str:
    """Return a bandwidth in GB/s as text; `-` for None."""
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def gpu_set(indices: Sequence[int]) -> str:
    """Return GPU indices as text: {0,1,2,3}."""
    return "{" + ",".join(map(str, indices)) + "}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
