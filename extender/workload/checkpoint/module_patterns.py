"""Patterns in `ignore`, `modules_to_not_convert` and `targets` of a quantisation config: which weights they name. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from extender.workload.structure import VISION, Weight

_MOST_PATTERNS = 20_000
_MOST_REPEATS = 4
_LONGEST = 200
_TOWER_WORDS = ("visual", "vision", "vit.", "mlp1", "multi_modal", "audio", "speech")
_SLOW = re.compile(r"\)[*+{]|[*+][*+.]*[*+]")
"""Repeated groups and adjacent repeats, whose matching can take exponential time."""
_SAFE_EXPRESSION = re.compile(r"[\w.\-\\*+?|$^()\[\]/:,]{1,200}", re.ASCII)


def published_names(module: str) -> tuple[str, ...]:
    """Return the names under which releases of transformers publish one module."""
    bare = module.removeprefix("model.")
    return (module, bare, f"model.{bare}", f"language_model.{module}", f"model.language_model.{bare}", f"language_model.model.{bare}")


def unread(patterns: Sequence[Any]) -> bool:
    """Return whether any pattern is ignored by `matcher`: it is no text, or an expression whose matching could take long."""
    return len(patterns) > _MOST_PATTERNS or any(not isinstance(pattern, str) or not _is_read(pattern) for pattern in patterns)


def _is_read(pattern: str) -> bool:
    if not pattern.startswith("re:"):
        return pattern.count("*") <= _MOST_REPEATS and len(pattern) <= _LONGEST
    text = pattern[3:]
    if _SAFE_EXPRESSION.fullmatch(text) is None or _SLOW.search(text) is not None or len(re.findall(r"[*+]", text)) > _MOST_REPEATS:
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def matcher(patterns: Sequence[Any]) -> Callable[[Weight], bool]:
    """Return a function that says whether the patterns name a weight: by its name, by parts of it between dots, by `*` wildcards, or by
    `re:` expressions.

    One pattern that names a module of a vision or audio tower names the whole tower: publishers name such modules in many ways, and
    quantise all of them or none.
    """
    valid = [pattern for pattern in patterns[:_MOST_PATTERNS] if isinstance(pattern, str) and _is_read(pattern)]
    expressions = [re.compile(pattern[3:]) for pattern in valid if pattern.startswith("re:")]
    wildcards = [pattern for pattern in valid if "*" in pattern and not pattern.startswith("re:")]
    words = {pattern.rstrip(".") for pattern in valid if "*" not in pattern and not pattern.startswith("re:")}

    names_tower = any(word in pattern for pattern in valid for word in _TOWER_WORDS)

    def matches(weight: Weight) -> bool:
        if weight.part == VISION:
            return names_tower
        names = published_names(weight.module)
        for name in names:
            steps = name.split(".")
            inner = (".".join(steps[first:last]) for first in range(len(steps)) for last in range(first + 1, len(steps) + 1))
            if words and any(part in words for part in inner):
                return True
            if any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in wildcards):
                return True
            if any(expression.match(name) for expression in expressions):
                return True
        return False

    return matches
