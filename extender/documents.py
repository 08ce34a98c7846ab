"""JSON or YAML text -> documents, as every entrance reads them: manifests in files, on standard input, over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from extender.errors import FabricwiseError


class DocumentError(FabricwiseError):
    """Text that is neither JSON nor YAML; says where."""


MOST_LEVELS = 100
"""Kubernetes objects nest some twenty levels deep."""


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML that leaves times as text, as JSON does: kubectl prints them unquoted."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _check_depth(text: str | bytes, where: str) -> None:
    """libyaml builds nested nodes by recursion in C, which no RecursionError stops: look at the events first."""
    depth = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_LEVELS:
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise DocumentError(
                    f"{where}: nested deeper than {MOST_LEVELS} levels on line {line}: no Kubernetes object is; correct the indentation"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def load_documents(text: str | bytes, where: str) -> list[Any]:
    """All documents of a text, empty ones left out. Raises DocumentError naming `where`, line and column."""
    try:
        return [msgspec.json.decode(text)]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass  # YAML, or several JSON documents, which YAML reads too
    try:
        _check_depth(text, where)
        return [document for document in yaml.load_all(text, Loader=_PlainLoader) if document is not None]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DocumentError(f"{where} is neither JSON nor YAML: {' '.join(str(error).split())[:300]}. Correct what stands there") from error
