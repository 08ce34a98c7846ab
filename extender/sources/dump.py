"""A cluster out of a file: what `fabricwise dump` writes, or `kubectl get nodes,pods -A -o yaml` (or json; gputopologies too where they
are served); one List or several documents."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extender.decision.state.changes import Listed
from extender.errors import ClusterSourceError
from extender.kube.decode import KINDS, Seen, seen
from extender.kube.listing import Collect, Listing
from extender.loading import load_documents

UNREAD = "unread"
"""Field of a dump's List: kind -> why `fabricwise dump` could not read it."""
_MAKE_ONE = "Make a dump with: fabricwise dump FILE"


STANDARD_INPUT = "-"
"""A file of this name is what is piped in."""
MOST_INPUT_CHARACTERS = 1 << 30
"""Of standard input, which may never end."""


def read_text(path: Path) -> str:
    """The file's text, or standard input's where the path is `-`. Raises ClusterSourceError."""
    try:
        if str(path) == STANDARD_INPUT:
            text = sys.stdin.read(MOST_INPUT_CHARACTERS + 1).removeprefix("\ufeff")
            if len(text) > MOST_INPUT_CHARACTERS:
                raise ClusterSourceError(f"standard input is longer than {MOST_INPUT_CHARACTERS} characters; name a file instead")
            return text
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ClusterSourceError(f"{path}: {error.strerror or error}: give a file that can be read") from error
    except UnicodeDecodeError as error:
        raise ClusterSourceError(f"{path} is not text: {error.reason} at byte {error.start}: save it as UTF-8") from error


def read_dump(path: Path, collect: Collect | None = None) -> Listing:
    """The file as one listing per kind; `collect` is called with every object, of whatever kind.

    Raises ClusterSourceError naming the object that cannot be read.
    """
    found: dict[str, list[Seen]] = {kind: [] for kind in KINDS}
    documents = load_documents(read_text(path), str(path))
    for kind, manifest in _objects(documents, str(path)):
        if collect is not None:
            collect(kind, manifest)
        if kind in found:
            try:
                found[kind].append(seen(kind, manifest))
            except ClusterSourceError as error:
                raise ClusterSourceError(f"{path}: {error}") from error
    if not found["Node"]:
        raise ClusterSourceError(f"{path} holds no Node: not a cluster dump. Make one with: fabricwise dump FILE")
    return Listing(tuple(Listed(KINDS[kind], tuple(changes)) for kind, changes in found.items()), _unread(documents))


def _unread(documents: list[Any]) -> dict[str, str]:
    """Kinds that `fabricwise dump` could not read, and why."""
    notes = [document.get(UNREAD) for document in documents if isinstance(document, dict)]
    known = KINDS.values()
    return {kind: str(why) for note in notes if isinstance(note, dict) for kind, why in note.items() if kind in known}


def _objects(documents: list[Any], where: str, kind: str = "") -> Iterator[tuple[str, Any]]:
    """(kind, object) out of documents; lists, typed lists and bare arrays are opened."""
    for place, document in enumerate(documents):
        if isinstance(document, list):
            yield from _objects(document, where)
            continue
        if not isinstance(document, dict):
            raise ClusterSourceError(f"{where}: item {place} is {type(document).__name__}, not a Kubernetes object. {_MAKE_ONE}")
        told = document.get("kind")
        own = told if isinstance(told, str) and told else kind
        if own.endswith("List"):
            items = document.get("items") or []
            if not isinstance(items, list):
                raise ClusterSourceError(f"{where}: {own}.items is {type(items).__name__}, not a list. {_MAKE_ONE}")
            yield from _objects(items, where, own.removesuffix("List"))
        else:
            yield own, document
