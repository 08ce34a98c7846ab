"""Text from outside, made safe for terminals and logs: characters that a terminal acts on become visible escapes. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

_INSTRUCTIONS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that a terminal acts on: controls (C0, DEL, C1), format characters (bidirectional overrides, zero
width), lone surrogates, line and paragraph separators."""


def plain(text: str, keep: str = "") -> str:
    """Return the text with each character that a terminal acts on as an escape (\\x1b, \\u202e), except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in _INSTRUCTIONS else _escape(character) for character in text
    )


def plain_data(value: Any) -> Any:
    """Return JSON-like data with `plain` applied to every string in it, including keys."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    return value


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
