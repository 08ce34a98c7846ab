"""The manifests of the pods that wait for a node, read from an API server on demand. It cannot write.

They stay JSON texts here: a child process decodes them. Thousands of manifests as Python objects would keep the interpreter busy with
garbage collection, and the verbs share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from extender.kube.listing import refusal
from extender.kube.objects.resources import Resource
from extender.scheduling.ports import PendingManifests
from topology.agent.publisher import ApiError

PENDING = Resource("Pod", "pods", "/api/v1/pods", "spec.nodeName=,status.phase=Pending")
MOST_PODS = 10_000
"""Waiting pods that are read for one answer."""
PAGE_SIZE = 100
"""Pods per request: about a megabyte, which is split in two milliseconds."""
SECONDS = 5.0
"""Time for all pages of one answer."""


class TextApi(Protocol):
    """The request that is made."""

    def get_text(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Return one page of a list as JSON. Raises ApiError."""


class _ListMeta(msgspec.Struct, frozen=True):
    token: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class KubePendingPods:
    """Implements `extender.scheduling.ports.PendingReader` with `list` on pods."""

    def __init__(self, api: TextApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock

    def read(self) -> PendingManifests:
        """Return the manifests, as many as can be read in time."""
        until_seconds, token = self._clock() + SECONDS, ""
        found: list[bytes] = []
        while True:
            try:
                page = self._page(token)
            except ApiError as error:
                return PendingManifests(tuple(found), refusal(PENDING, error))
            found += map(bytes, page.items or ())
            token = page.metadata.token
            if not token:
                return PendingManifests(tuple(found[:MOST_PODS]), _only(MOST_PODS) if len(found) > MOST_PODS else None)
            if len(found) >= MOST_PODS or self._clock() >= until_seconds:
                return PendingManifests(tuple(found[:MOST_PODS]), _only(min(len(found), MOST_PODS)))

    def _page(self, token: str) -> _Page:
        """Return one page. Raises ApiError."""
        query = (("limit", str(PAGE_SIZE)), ("fieldSelector", PENDING.field_selector or ""), *((("continue", token),) if token else ()))
        text = self._api.get_text(PENDING.path, query)
        try:
            return msgspec.json.decode(text, type=_Page)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ApiError(0, f"GET {PENDING.path}: the answer is not a list of objects: {error}") from error


def _only(count: int) -> str:
    return f"only {count} waiting pods were read in time"
