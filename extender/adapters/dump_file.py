"""A cluster out of a file: `kubectl get nodes,pods,gputopologies -A -o yaml` (or json), one List or several documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extender.adapters.manifests import KINDS, Seen, seen
from extender.decision.changes import Listed
from extender.documents import load_documents
from extender.errors import ClusterSourceError

_MAKE_ONE = "Make a dump with: kubectl get nodes,pods,gputopologies -A -o yaml"


def read_text(path: Path) -> str:
    """The file's text. Raises ClusterSourceError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ClusterSourceError(f"{path}: {error.strerror or error}: give a file that can be read") from error
    except UnicodeDecodeError as error:
        raise ClusterSourceError(f"{path} is not text: {error.reason} at byte {error.start}: save it as UTF-8") from error


def read_dump(path: Path) -> list[Listed]:
    """The file as one listing per kind. Raises ClusterSourceError naming the object that cannot be read."""
    found: dict[str, list[Seen]] = {kind: [] for kind in KINDS}
    for kind, manifest in _objects(load_documents(read_text(path), str(path)), str(path)):
        if kind in found:
            try:
                found[kind].append(seen(kind, manifest))
            except ClusterSourceError as error:
                raise ClusterSourceError(f"{path}: {error}") from error
    if not found["Node"]:
        raise ClusterSourceError(f"{path} holds no Node: not a cluster dump. {_MAKE_ONE}")
    return [Listed(KINDS[kind], tuple(changes)) for kind, changes in found.items()]


def _objects(documents: list[Any], where: str, kind: str = "") -> Iterator[tuple[str, Any]]:
    """(kind, object) out of documents; lists, typed lists and bare arrays are opened."""
    for place, document in enumerate(documents):
        if isinstance(document, list):
            yield from _objects(document, where)
            continue
        if not isinstance(document, dict):
            raise ClusterSourceError(f"{where}: item {place} is {type(document).__name__}, not a Kubernetes object. {_MAKE_ONE}")
        own = str(document.get("kind") or kind)
        if own.endswith("List"):
            items = document.get("items") or []
            if not isinstance(items, list):
                raise ClusterSourceError(f"{where}: {own}.items is {type(items).__name__}, not a list. {_MAKE_ONE}")
            yield from _objects(items, where, own.removesuffix("List"))
        else:
            yield own, document
