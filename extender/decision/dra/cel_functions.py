"""The functions that Kubernetes adds to CEL for quantities and semantic versions.

Both are maps with one entry, in canonical form so that equal amounts are equal: `{"quantity": "42949672960"}` and
`{"semver": "1.2.3"}`. Source: k8s.io/apiserver v0.36.3 `pkg/cel/library/{quantity,semver}.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from extender.decision.request.quantity import quantity

_SEMVER = re.compile(
    r"(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})(?:-([0-9A-Za-z.-]{1,64}))?(?:\+([0-9A-Za-z.-]{1,64}))?$", re.ASCII
)


def quantity_value(text: object) -> dict[str, str] | None:
    """Return a quantity as the value that CEL computes with; None where the text is no quantity."""
    try:
        amount = quantity(text)
    except ValueError:
        return None
    return {"quantity": format(amount.normalize(), "f")}


def semver_value(text: str) -> dict[str, str] | None:
    """Return a version as the value that CEL computes with; None where it is no semantic version (three numbers, as in 1.2.3)."""
    return {"semver": text} if _SEMVER.match(text) else None


def amount(value: dict[str, str]) -> Decimal:
    """Return the number of a quantity."""
    return Decimal(value["quantity"])


def _rank(value: dict[str, str]) -> tuple[Any, ...]:
    """Return a sort key in the order of semver.org: a pre-release comes before its release, numbers before words; build metadata does
    not count."""
    match = _SEMVER.match(value["semver"])
    assert match is not None
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in (match[4] or "").split(".") if part]
    return int(match[1]), int(match[2]), int(match[3]), not parts, tuple(parts)


def compared(left: dict[str, str], right: dict[str, str]) -> int:
    """Return 1, 0 or -1: how a quantity or a version compares with another."""
    key: Callable[[dict[str, str]], Any] = amount if "quantity" in left else _rank
    return int(key(left) > key(right)) - int(key(left) < key(right))


def needed(value: dict[str, str] | None, text: str, kind: str) -> dict[str, str]:
    """Return the value. Raises ValueError where it is None, with the text that is no `kind`."""
    if value is None:
        raise ValueError(f"{text[:40]!r} is not a {kind}")
    return value


def summed(left: dict[str, str], right: dict[str, str], sign: int) -> dict[str, str]:
    """Return the sum of two quantities, the second one times `sign`."""
    return {"quantity": format((amount(left) + sign * amount(right)).normalize(), "f")}


def integer(value: dict[str, str]) -> int:
    """Return a quantity as a number. Raises ValueError where it is no integer of 64 bits."""
    number = amount(value)
    if number != number.to_integral_value() or abs(number) >= 1 << 63:
        raise ValueError("the quantity is not an integer")
    return int(number)


def version_number(value: dict[str, str], place: int) -> int:
    """Return a number of a version: 1 is major, 2 minor, 3 patch."""
    match = _SEMVER.match(value["semver"])
    assert match is not None
    return int(match[place])
