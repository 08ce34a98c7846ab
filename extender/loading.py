"""JSON or YAML text -> documents, within bounds: for manifests and settings in files, on standard input and over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from extender.errors import FabricwiseError


class DocumentError(FabricwiseError):
    """Text that is neither JSON nor YAML or exceeds a bound; the text of the error names the place."""


MOST_LEVELS = 100
"""Deepest nesting of a document; Kubernetes objects have about twenty levels."""

MOST_REPEATED = 10_000
"""Most values that aliases may repeat in one text; manifests use aliases for a few labels."""

MOST_DIGITS = 400
"""Most characters of an unquoted number. YAML 1.1 reads `1:1:1` in base 60, in time that grows with the square of its length."""


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML loader that reads timestamps as text, as JSON does; kubectl prints them unquoted."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Measure:
    """Counts the nodes and levels of documents from parser events, before any value is built. Raises DocumentError at a bound."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._open: list[tuple[str | None, int]] = []
        """Open collections: (anchor, number of nodes before it)."""
        self._nodes = 0
        """Nodes so far, including those that aliases repeat."""
        self._written = 0
        """Nodes so far, without those that aliases repeat."""
        self._sizes: dict[str, int | None] = {}
        """Anchor -> number of nodes of its collection or scalar; None while the collection is open."""

    def take(self, event: yaml.Event) -> None:
        """Count one event. Raises DocumentError if a bound is exceeded."""
        if isinstance(event, yaml.AliasEvent):
            anchor = event.anchor or ""
            size = self._sizes.get(anchor, 1)
            if size is None:
                raise DocumentError(
                    f"{self._where}: alias *{anchor[:40]} on line {_line(event)} is inside its own value: write the values out"
                )
            self._nodes += size
            if self._nodes - self._written > MOST_REPEATED:
                raise DocumentError(
                    f"{self._where}: aliases repeat more than {MOST_REPEATED} values by line {_line(event)}; write the values out"
                )
        elif isinstance(event, yaml.ScalarEvent):
            self._count()
            if event.anchor:
                self._sizes[event.anchor] = 1
            if event.implicit[0] and len(event.value) > MOST_DIGITS and not event.value.strip("0123456789_:.+-"):
                raise DocumentError(
                    f"{self._where}: a number of {len(event.value)} characters on line {_line(event)}: put it in quotes or correct it"
                )
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, self._nodes))
            self._count()
            if event.anchor:
                self._sizes[event.anchor] = None
            if len(self._open) > MOST_LEVELS:
                raise DocumentError(
                    f"{self._where}: nested deeper than {MOST_LEVELS} levels on line {_line(event)}: "
                    "Kubernetes objects are not that deep; correct the indentation"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            name, before = self._open.pop()
            if name:
                self._sizes[name] = self._nodes - before
        elif isinstance(event, yaml.DocumentStartEvent):
            self._sizes = {}

    def _count(self) -> None:
        self._nodes += 1
        self._written += 1


def _line(event: yaml.Event) -> int | str:
    return event.start_mark.line + 1 if event.start_mark else "?"


def _check(text: str | bytes, where: str) -> None:
    """Raise DocumentError if the text nests too deep, or aliases repeat too many values.

    libyaml builds nested nodes by recursion in C, which RecursionError does not stop, and 500 bytes of aliases can become billions of
    values.
    """
    measure = _Measure(where)
    for event in yaml.parse(text, Loader=_PlainLoader):
        measure.take(event)


def load_documents(text: str | bytes, where: str) -> list[Any]:
    """Return all documents of a text, without empty ones. Raises DocumentError naming `where`, line and column."""
    try:
        return [msgspec.json.decode(text)]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass  # YAML, or several JSON documents, which YAML reads too
    try:
        _check(text, where)
        return [document for document in yaml.load_all(text, Loader=_PlainLoader) if document is not None]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DocumentError(f"{where} is neither JSON nor YAML: {' '.join(str(error).split())[:300]}. Correct this place") from error
