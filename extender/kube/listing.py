"""One listing of each kind from an API server, page by page. It cannot write, and starts no thread.

If one kind cannot be listed, the others still are; the reason is part of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from extender.decision.state.changes import Listed
from extender.errors import ClusterSourceError
from extender.kube.objects.decode import Seen, seen
from extender.kube.objects.resources import RESOURCES, Resource
from topology.agent.publisher import ApiError

PAGE_SIZE = 500
"""Objects per request, as in kubectl."""
MOST_OBJECTS = 1_000_000
"""Most objects of one kind: a bound for a server whose list does not end."""
MOST_ATTEMPTS = 3
"""Attempts to list a kind; a list starts again when its continue token has expired (status 410)."""

Progress = Callable[[str, int, int | None], None]
"""Called after each page with (kind, objects read so far, objects left or None if the server does not state it)."""


class ListApi(Protocol):
    """The requests that a listing needs."""

    def get(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        """Return an object, or one page of a list. Raises ApiError."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What was read, and what could not be read."""

    listed: tuple[Listed, ...]
    """One listing per kind that was read."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Kind as in `Resource.listed_as` -> why it, or an object of it, could not be read."""


Collect = Callable[[str, Any], None]
"""Called with (kind, manifest) for every object that is read."""


def list_once(api: ListApi, progress: Progress | None = None, collect: Collect | None = None) -> Listing:
    """Return one listing of every kind. Raises ClusterSourceError if nodes cannot be listed: every answer needs them."""
    listed, unread = list[Listed](), dict[str, str]()
    for resource in RESOURCES:
        try:
            objects, problems = _decoded(resource, items_of(api, resource, progress), collect)
        except ApiError as error:
            why = refusal(resource, error)
            if resource.kind == "Node":
                raise ClusterSourceError(why) from error
            unread[resource.listed_as] = why
            continue
        listed.append(Listed(resource.listed_as, objects))
        if problems:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            unread[resource.listed_as] = f"{problems[0]}{more}"
    return Listing(tuple(listed), unread)


def items_of(api: ListApi, resource: Resource, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a kind, read in pages of `PAGE_SIZE`; none if its CRD is not installed.

    A list whose continue token expires starts again, and skips the objects that it has yielded before. Raises ApiError.
    """
    yielded: set[str] = set()
    for attempt in range(MOST_ATTEMPTS):
        try:
            yield from _pages(api, resource, yielded, progress)
            return
        except ApiError as error:
            if error.status == 404 and resource.optional:
                if resource.other_path is not None:
                    yield from items_of(api, replace(resource, path=resource.other_path, other_path=None), progress)
                return
            if error.status != 410 or attempt == MOST_ATTEMPTS - 1:
                raise


def _pages(api: ListApi, resource: Resource, yielded: set[str], progress: Progress | None) -> Iterator[dict[str, Any]]:
    selected = (("fieldSelector", resource.field_selector),) if resource.field_selector else ()
    token = ""
    while True:
        page = api.get(resource.path, (("limit", str(PAGE_SIZE)), *selected, *((("continue", token),) if token else ())))
        items, metadata = page.get("items"), page.get("metadata")
        if not isinstance(items, list | None) or not isinstance(metadata, dict):
            raise ApiError(0, f"GET {resource.path}: the answer is not a list of objects")
        for item in items or ():
            key = _identity(item)
            if key is None or key not in yielded:
                if key is not None:
                    yielded.add(key)
                yield item
        if len(yielded) > MOST_OBJECTS:
            raise ApiError(0, f"GET {resource.path}: more than {MOST_OBJECTS} objects")
        token = metadata.get("continue") or ""
        if progress is not None:
            left = metadata.get("remainingItemCount")
            progress(resource.listed_as, len(yielded), left if isinstance(left, int) else None if token else 0)
        if not token:
            return
        if not items:
            raise ApiError(0, f"GET {resource.path}: an empty page that is not the last")


def _identity(item: object) -> str | None:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return f"{metadata.get('namespace')}/{metadata.get('name')}" if isinstance(metadata, dict) else None


def _decoded(resource: Resource, items: Iterator[dict[str, Any]], collect: Collect | None) -> tuple[tuple[Seen, ...], list[str]]:
    """Return (changes of the objects that can be decoded, problems of the others)."""
    objects, problems = list[Seen](), list[str]()
    for item in items:
        if collect is not None:
            collect(resource.kind, item)
        try:
            objects.append(seen(resource.kind, item))
        except ClusterSourceError as error:
            problems.append(str(error))
    return tuple(objects), problems


def refusal(resource: Resource, error: ApiError) -> str:
    """Return a sentence that says why a kind cannot be listed, and what helps."""
    plural = resource.path.rsplit("/", 1)[1]
    group = f".{resource.path.split('/')[2]}" if resource.path.startswith("/apis/") else ""
    remedy = {
        401: "the API server does not accept the credentials: log in again",
        403: f"see kubectl auth can-i list {plural}{group} --all-namespaces",
        0: "check the address in the kubeconfig, and the network",
    }.get(error.status)
    return f"{plural} cannot be listed: {error}" + (f"; {remedy}" if remedy else "")
