"""A cluster from a file: the output of `fabricwise dump` or of `kubectl get nodes,pods,gputopologies -A -o yaml` (or json).

The file has one List or several documents; gputopologies are optional.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from extender.decision.state.changes import Listed
from extender.errors import ClusterSourceError
from extender.kube.listing import Collect, Listing
from extender.kube.objects.decode import KINDS, Seen, seen
from extender.loading import load_documents

UNREAD = "unread"
"""Field of a dump's List: kind -> why `fabricwise dump` could not read it."""
WRITTEN_LIST = "List"
"""Kind by which a collector is told what `fabricwise dump` could not read."""
_MAKE_ONE = "Make a dump with: fabricwise dump FILE"

STANDARD_INPUT = "-"
"""File name that stands for standard input."""
MOST_INPUT_CHARACTERS = 1 << 30
"""Most characters of standard input, which may never end."""


def read_text(path: Path) -> str:
    """Return the text of a file, or of standard input for the path `-`. Raises ClusterSourceError."""
    try:
        if str(path) == STANDARD_INPUT:
            text = sys.stdin.read(MOST_INPUT_CHARACTERS + 1).removeprefix("\ufeff")
            if len(text) > MOST_INPUT_CHARACTERS:
                raise ClusterSourceError(f"standard input is longer than {MOST_INPUT_CHARACTERS} characters; name a file instead")
            return text
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ClusterSourceError(f"{path}: {error.strerror or error}: give a readable file") from error
    except UnicodeDecodeError as error:
        raise ClusterSourceError(f"{path} is not text: {error.reason} at byte {error.start}: save it as UTF-8") from error


def read_dump(path: Path, collect: Collect | None = None) -> Listing:
    """Return the file as one listing per kind; `collect` is called with every object, also of other kinds. For a List that
    `fabricwise dump` has written, it is also called with `WRITTEN_LIST` and a mapping whose keys are the kinds that could not be read.

    Raises ClusterSourceError naming the object that cannot be read.
    """
    changes_by_kind: dict[str, list[Seen]] = {kind: [] for kind in KINDS}
    documents = _documents(read_text(path), str(path))
    for kind, manifest in _objects(documents, str(path)):
        if collect is not None:
            collect(kind, manifest)
        if kind in changes_by_kind:
            try:
                changes_by_kind[kind].append(seen(kind, manifest))
            except ClusterSourceError as error:
                raise ClusterSourceError(f"{path}: {error}") from error
    if collect is not None:
        for document in documents:
            if isinstance(document, dict) and isinstance(document.get(UNREAD), dict):
                collect(WRITTEN_LIST, document[UNREAD])
    if not changes_by_kind["Node"]:
        raise ClusterSourceError(f"{path} has no Node, so it is not a cluster dump. Make one with: fabricwise dump FILE")
    return Listing(tuple(Listed(KINDS[kind], tuple(changes)) for kind, changes in changes_by_kind.items()), _unread(documents))


class _JsonList(msgspec.Struct):
    """A List in JSON whose items are not decoded yet."""

    items: list[msgspec.Raw]
    kind: str = ""
    unread: Any = None


_JSON_LIST = msgspec.json.Decoder(_JsonList)


def _documents(text: str, where: str) -> list[Any]:
    """Return the documents of a text. Raises DocumentError.

    The items of a List in JSON remain text: `_objects` decodes one at a time, because all of them at once take several times the memory of
    the state that is made from them.
    """
    try:
        whole = _JSON_LIST.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return load_documents(text, where)
    return [{"kind": whole.kind, "items": whole.items, UNREAD: whole.unread}]


def _decoded(item: msgspec.Raw, where: str) -> Any:
    try:
        return msgspec.json.decode(item)
    except msgspec.DecodeError:  # a number that JSON cannot hold
        return next(iter(load_documents(bytes(item), where)), None)


def _unread(documents: list[Any]) -> dict[str, str]:
    """Return kind -> why `fabricwise dump` could not read it."""
    fields = [document.get(UNREAD) for document in documents if isinstance(document, dict)]
    known = KINDS.values()
    return {kind: str(why) for field in fields if isinstance(field, dict) for kind, why in field.items() if kind in known}


def _objects(documents: list[Any], where: str, kind: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (kind, object) from documents, including the items of Lists, typed lists (PodList) and arrays.

    `kind` is that of objects without a kind: items of a typed list.
    """
    for position, loaded in enumerate(documents):
        document = _decoded(loaded, where) if isinstance(loaded, msgspec.Raw) else loaded
        if isinstance(document, list):
            yield from _objects(document, where)
            continue
        if not isinstance(document, dict):
            raise ClusterSourceError(f"{where}: item {position} is {type(document).__name__}, not a Kubernetes object. {_MAKE_ONE}")
        stated = document.get("kind")
        object_kind = stated if isinstance(stated, str) and stated else kind
        if object_kind.endswith("List"):
            items = document.get("items") or []
            if not isinstance(items, list):
                raise ClusterSourceError(f"{where}: {object_kind}.items is {type(items).__name__}, not a list. {_MAKE_ONE}")
            yield from _objects(items, where, object_kind.removesuffix("List"))
        else:
            yield object_kind, document
