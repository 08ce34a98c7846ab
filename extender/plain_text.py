"""Text from outside as it may be shown on a terminal or written to a log: what could be taken for an instruction becomes visible. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

_INSTRUCTIONS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that a terminal acts on: controls (C0, DEL, C1), formats (bidirectional overrides, zero width),
lone surrogates, and separators of lines and paragraphs."""


def plain(text: str, keep: str = "") -> str:
    """The text with every character that a terminal acts on written as an escape (\\x1b, \\u202e); those in `keep` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in _INSTRUCTIONS else _escape(character) for character in text
    )


def plain_data(value: Any) -> Any:
    """JSON-like data with `plain` applied to every string in it, keys included."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    return value


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
