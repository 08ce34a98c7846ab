"""The meaning of XID codes: broken hardware, an application error, or unclassified.

Codes and names: NVIDIA, "XID Errors" (catalog); the application errors are those that NVIDIA's device plugin
ignores too (k8s-device-plugin, `DP_DISABLE_HEALTHCHECKS`, its default list).
"""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """The consequence of a code."""

    FATAL = "fatal"  # the device must not get new work
    APPLICATION = "application"  # caused by a program: the device is healthy
    UNSORTED = "unsorted"  # counts as strain, refuses no pod


FATAL: dict[int, str] = {
    48: "double-bit ECC error",
    63: "row remapping or page retirement recorded",
    64: "row remapping or page retirement failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high rate of single-bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "GSP RPC timeout",
    120: "GSP error",
    140: "unrecovered ECC error",
}
"""Codes after which a device is fenced, unless the settings name others."""

APPLICATION: dict[int, str] = {
    13: "graphics engine exception",
    31: "GPU memory page fault",
    43: "GPU stopped processing (program's channel)",
    45: "preemptive cleanup after an earlier error",
    68: "video decoder exception",
    109: "context switch timeout",
}

DEFAULT_FATAL = tuple(FATAL)


def severity(code: int, fatal: tuple[int, ...] = DEFAULT_FATAL) -> Severity:
    """Return the severity of a code; `fatal` are the codes that the operator has set as fatal."""
    if code in fatal:
        return Severity.FATAL
    return Severity.APPLICATION if code in APPLICATION else Severity.UNSORTED


def described(code: int) -> str:
    """Return the code with its name: `XID 79: GPU has fallen off the bus`."""
    name = FATAL.get(code) or APPLICATION.get(code)
    return f"XID {code}: {name}" if name else f"XID {code}"
