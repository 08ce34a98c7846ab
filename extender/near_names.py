"""Names that resemble one that is not known, for the end of an error. Pure, and quick among thousands of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

MOST_LOOKED_AT = 10_000
"""Names of a cluster that are looked at; the others are not found."""
_MOST_COMPARED = 200
"""Names that are compared letter by letter, which takes 10 microseconds each."""


def near_names(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Return the names that resemble `name`, the nearest first.

    Of many names, those are compared that begin or end like it: a name with one wrong letter does one of the two.
    """
    known = list(islice(names, MOST_LOOKED_AT))
    if len(known) > _MOST_COMPARED:
        half = _MOST_COMPARED // 2
        known = list(dict.fromkeys([*_begin_alike(name, known)[:half], *_end_alike(name, known)[:half]]))
    return get_close_matches(name, known, n=most)


def _begin_alike(name: str, names: Sequence[str]) -> Sequence[str]:
    """Return those of the names that share the longest beginning with `name`."""
    fewest, most = 0, len(name)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        beginning = name[:middle]
        alike = [each for each in names if each.startswith(beginning)]
        if alike:
            fewest, names = middle, alike
        else:
            most = middle - 1
    return names


def _end_alike(name: str, names: Sequence[str]) -> Sequence[str]:
    """Return those of the names that share the longest end with `name`."""
    return [each[::-1] for each in _begin_alike(name[::-1], [each[::-1] for each in names])]
