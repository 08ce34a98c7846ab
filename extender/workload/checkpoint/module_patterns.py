"""Names of modules in `ignore`, `modules_to_not_convert` and `targets` of a quantisation config: which weights they mean."""

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
"""Repeated groups, and repeats side by side: those backtrack."""
_SAFE_EXPRESSION = re.compile(r"[\w.\-\\*+?|$^()\[\]/:,]{1,200}", re.ASCII)


def published_names(module: str) -> tuple[str, ...]:
    """The names under which releases of transformers publish one module."""
    bare = module.removeprefix("model.")
    return (module, bare, f"model.{bare}", f"language_model.{module}", f"model.language_model.{bare}", f"language_model.model.{bare}")


def unread(patterns: Sequence[Any]) -> bool:
    """Whether one of the patterns is passed over: it is no text, or an expression that could take long."""
    return len(patterns) > _MOST_PATTERNS or any(not isinstance(one, str) or not _is_read(one) for one in patterns)


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
    """Whether a weight is named: by its own name, a part of it between dots, `*` wildcards, or `re:` expressions.

    Publishers name a tower's modules in many ways, and leave all of it alone or nothing: one name of it means all of it.
    """
    read = [one for one in patterns[:_MOST_PATTERNS] if isinstance(one, str) and _is_read(one)]
    expressions = [re.compile(one[3:]) for one in read if one.startswith("re:")]
    wild = [one for one in read if "*" in one and not one.startswith("re:")]
    words = {one.rstrip(".") for one in read if "*" not in one and not one.startswith("re:")}

    names_tower = any(word in one for one in read for word in _TOWER_WORDS)

    def matches(weight: Weight) -> bool:
        if weight.part == VISION:
            return names_tower
        names = published_names(weight.module)
        for name in names:
            steps = name.split(".")
            inner = (".".join(steps[first:last]) for first in range(len(steps)) for last in range(first + 1, len(steps) + 1))
            if words and any(part in words for part in inner):
                return True
            if any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in wild):
                return True
            if any(expression.match(name) for expression in expressions):
                return True
        return False

    return matches
