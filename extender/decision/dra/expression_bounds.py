"""Bounds of a CEL expression by its text, before it is evaluated: how often it may iterate, and how large its values may grow.

The API server estimates the cost of each selector and refuses expensive ones; it has not seen an expression from a file. The CEL library
bounds depth and iterations, but neither the length of a string that is doubled again and again, nor the time of many nodes together.
"""

from __future__ import annotations

import re
from itertools import pairwise
from math import prod

MOST_ITERATIONS = 2_000
"""Iterations of an evaluation, at most; that takes about 0.3 ms."""

MOST_GROWTH = 1_000_000
"""How many times as long as its longest literal a value may become."""

_MOST_ATTRIBUTES = 32
"""Attributes and capacities of a device (ResourceSliceMaxAttributesAndCapacitiesPerDevice)."""

_LONGEST_ATTRIBUTE = 64
"""Characters of an attribute (DeviceAttributeMaxValueLength)."""

_COMPREHENSION = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(")
_NAMED_VALUE = re.compile(r"\.\s*(?:bind|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_MULTIPLIES = re.compile(r"\.\s*(?:replace|join|format)\s*\(")
_LONG_FORMAT = re.compile(r"%\.\d{3}")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def too_costly(expression: str) -> str | None:
    """Return why an expression is not evaluated; None where its text bounds its cost. An upper bound may be far above the real cost."""
    longest_list = max(_MOST_ATTRIBUTES, 1 + expression.count(","))
    iterations = longest_list ** len(_COMPREHENSION.findall(expression))
    if iterations > MOST_ITERATIONS:
        return f"it may iterate {_shown(iterations)} times, {MOST_ITERATIONS} are the most"
    names = _IDENTIFIER.findall(expression)
    copies = prod(max(1, names.count(name) - 1) for name in _NAMED_VALUE.findall(expression))
    growth = copies * (1 + max(_LONGEST_ATTRIBUTE, _longest_literal(expression))) ** len(_MULTIPLIES.findall(expression))
    if growth > MOST_GROWTH:
        return f"its values may grow {_shown(growth)} times, {MOST_GROWTH} are the most"
    if _LONG_FORMAT.search(expression):
        return "it formats a number with 100 digits or more"
    return None


def _longest_literal(expression: str) -> int:
    """Return the longest distance between two quotes, which no string literal exceeds."""
    quotes = [place for place, character in enumerate(expression) if character in "'\""]
    return max((end - start for start, end in pairwise(quotes)), default=0)


def _shown(number: int) -> str:
    return str(number) if number < 10**12 else f"10^{len(str(number)) - 1}"
