"""Kubernetes quantities: "80Gi", "1e3", 4."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

_SUFFIXES: dict[str, int | Decimal] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_QUANTITY = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)(?P<suffix>[KMGTPE]i|[mkMGTPE]|)$", re.ASCII)

MOST_TEXT = 100
"""Longest accepted quantity, in characters. The longest that kubectl prints have about twenty."""

MOST_EXPONENT = 40
"""Largest accepted power of ten. Kubernetes itself keeps at most 2**63 - 1."""


def quantity(text: Any) -> Decimal:
    """Return a Kubernetes quantity ("80Gi", "1e3", 4) as a number. Raise ValueError with a remedy where it is none."""
    if type(text) is str:
        return _of_text(text)
    if isinstance(text, bool) or not isinstance(text, str | int | float | Decimal):
        raise ValueError(f"a {type(text).__name__} is not a quantity such as 80Gi or 4")
    if isinstance(text, int) and text.bit_length() > 256:
        raise ValueError("an integer of so many digits is not a quantity such as 80Gi or 4")
    return _parsed(str(text))


def _parsed(text: str) -> Decimal:
    value = text.strip()
    parts = _QUANTITY.match(value) if len(value) <= MOST_TEXT else None
    if parts is None:
        raise ValueError(f"{value[:40]!r} is not a quantity such as 80Gi or 4")
    try:
        amount = Decimal(parts["number"]) * _SUFFIXES[parts["suffix"]]
        if amount and amount.adjusted() > MOST_EXPONENT:
            raise ArithmeticError
        return amount
    except ArithmeticError as error:
        raise ValueError(f"{value[:40]!r} is not a finite quantity: give a smaller one, such as 80Gi or 4") from error


_of_text = lru_cache(maxsize=4_096)(_parsed)
"""The amounts of a cluster's nodes and pods are few different texts."""
