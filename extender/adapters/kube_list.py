"""One listing of each kind from an API server, page by page. Reads only: it has no way to write and starts no thread.

What one kind refuses does not stop the others: the reason is kept beside what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from extender.adapters.kube_resources import RESOURCES, Resource
from extender.adapters.manifests import Seen, seen
from extender.decision.changes import Listed
from extender.errors import ClusterSourceError
from topology.agent.publisher import ApiError

PAGE_SIZE = 500
"""Objects per request, as kubectl asks for."""
MOST_OBJECTS = 1_000_000
"""Of one kind; a server whose list does not end is not read for ever."""
MOST_ATTEMPTS = 3
"""Times a list is begun anew because its continue token has expired (410)."""

Progress = Callable[[str, int, int | None], None]
"""(kind, objects read so far, objects left or None where the server does not say), after each page."""


class ListApi(Protocol):
    """What a listing needs of an API server."""

    def get(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        """An object, or one page of a list. Raises ApiError."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What was read, and what was not."""

    listed: tuple[Listed, ...]
    """One per kind that was read."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Kind as listed -> why it, or an object of it, could not be read."""


def list_once(api: ListApi, progress: Progress | None = None) -> Listing:
    """Every kind, listed once. Raises ClusterSourceError where nodes cannot be listed: nothing can be said without them."""
    listed, unread = list[Listed](), dict[str, str]()
    for resource in RESOURCES:
        try:
            objects, problems = _decoded(resource, items_of(api, resource, progress))
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
    """The objects of a kind, in pages of `PAGE_SIZE`; none where its CRD is not installed.

    A list whose continue token expires begins anew, and objects that were given already are left out. Raises ApiError.
    """
    given: set[str] = set()
    for attempt in range(MOST_ATTEMPTS):
        try:
            yield from _pages(api, resource, given, progress)
            return
        except ApiError as error:
            if error.status == 404 and resource.optional:
                if resource.other_path is not None:
                    yield from items_of(api, replace(resource, path=resource.other_path, other_path=None), progress)
                return
            if error.status != 410 or attempt == MOST_ATTEMPTS - 1:
                raise


def _pages(api: ListApi, resource: Resource, given: set[str], progress: Progress | None) -> Iterator[dict[str, Any]]:
    selected = (("fieldSelector", resource.field_selector),) if resource.field_selector else ()
    token = ""
    while True:
        page = api.get(resource.path, (("limit", str(PAGE_SIZE)), *selected, *((("continue", token),) if token else ())))
        items, metadata = page.get("items"), page.get("metadata")
        if not isinstance(items, list | None) or not isinstance(metadata, dict):
            raise ApiError(0, f"GET {resource.path}: the answer is not a list of objects")
        for item in items or ():
            key = _identity(item)
            if key is None or key not in given:
                if key is not None:
                    given.add(key)
                yield item
        if len(given) > MOST_OBJECTS:
            raise ApiError(0, f"GET {resource.path}: more than {MOST_OBJECTS} objects")
        token = metadata.get("continue") or ""
        if progress is not None:
            left = metadata.get("remainingItemCount")
            progress(resource.listed_as, len(given), left if isinstance(left, int) else None if token else 0)
        if not token:
            return
        if not items:
            raise ApiError(0, f"GET {resource.path}: an empty page that is not the last")


def _identity(item: object) -> str | None:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return f"{metadata.get('namespace')}/{metadata.get('name')}" if isinstance(metadata, dict) else None


def _decoded(resource: Resource, items: Iterator[dict[str, Any]]) -> tuple[tuple[Seen, ...], list[str]]:
    """The objects that can be read, and what is wrong with the others."""
    objects, problems = list[Seen](), list[str]()
    for item in items:
        try:
            objects.append(seen(resource.kind, item))
        except ClusterSourceError as error:
            problems.append(str(error))
    return tuple(objects), problems


def refusal(resource: Resource, error: ApiError) -> str:
    """A sentence on why a kind cannot be listed, with what helps."""
    plural = resource.path.rsplit("/", 1)[1]
    group = f".{resource.path.split('/')[2]}" if resource.path.startswith("/apis/") else ""
    remedy = {
        401: "the API server does not accept the credentials: log in again",
        403: f"see kubectl auth can-i list {plural}{group} --all-namespaces",
        0: "check the address in the kubeconfig, and the network",
    }.get(error.status)
    return f"{plural} cannot be listed: {error}" + (f"; {remedy}" if remedy else "")
