"""List and watch of an API server, for nodes, pods that have not ended, and GpuTopologies.

Each kind has three nested loops: until `stop`; list, then watch; one stream. A watch that ends is resumed at its last resourceVersion;
status 410 (the server no longer has that history) causes a new list; after any other failure the loop waits and tries again. The last
known state stays until a list replaces it. The state is ready only after the first list of every kind.

The `kubernetes` client provides configuration, authentication and connections; its models are too slow for thousands of objects, so
lines are decoded by `watch_events`. None of its exceptions leaves this module.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import kubernetes.client
import msgspec
import urllib3

from extender.decision.state.changes import Change, ClockTicked, Listed, WatchLost, WatchRestored, subject_of
from extender.decision.state.isolation import SetAside
from extender.errors import ClusterSourceError
from extender.kube.api_client import credentials
from extender.kube.objects.decode import Seen, seen_or_set_aside
from extender.kube.objects.resources import DRA_RESOURCES, RESOURCES, Resource
from extender.kube.watching.watch_events import TYPES, UnreadableLineError, watch_event
from extender.kube.watching.watch_lines import LineTooLongError, line_batches
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.supervision import Supervisor
from extender.settings import Kube

log = logging.getLogger("fabricwise.kube")


_TICK_SECONDS = 5.0
_ABSENT_RETRY_SECONDS = 5.0
_MOST_WAIT_SECONDS = 30.0
"""How long nodes wait for the kinds of Dynamic Resource Allocation to be listed; without these, a node's GPUs may not be seen."""
_SHORT_WATCH_SECONDS = 1.0
"""After a watch that ends sooner, the loop waits before the next one: something between extender and server, such as a proxy, cut it."""


class _GoneError(Exception):
    """Status 410: the server no longer has the history; list again."""


class _RefusedError(Exception):
    """The request failed; `status` is the HTTP status, 0 if there is no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _ListPage(msgspec.Struct):
    metadata: _ListMeta
    items: list[Any] | None = None


_PAGE = msgspec.json.Decoder(_ListPage)

_jitter = random.Random()
"""Its own, because a thread that draws from the shared one changes what others draw from it, such as Hypothesis."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the events of a batch say."""

    changes: list[Change]
    version: str | None
    """The newest resourceVersion before the first error; None where there is none."""
    error: _GoneError | _RefusedError | None
    """Why the watch has to be started again, once the changes are applied."""


def without_repeats(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield the changes in order, in groups that name no object twice.

    What follows from a change of a pod (an event that is owed, an assumed pod that is given up) is read from the states before and after
    it: a pod that is created and bound in one group would never have been pending.
    """
    group: list[Change] = []
    subjects: set[tuple[str, str]] = set()
    for change in changes:
        subject = subject_of(change)
        if subject in subjects:
            yield group
            group, subjects = [], set()
        group.append(change)
        subjects.add(subject)
    if group:
        yield group


class ClusterWatch:
    """Follows the API server, one daemon thread per kind, from `start` to `stop`, and applies changes to the store."""

    def __init__(
        self,
        client: kubernetes.client.ApiClient,
        store: ClusterStore,
        settings: Kube,
        metrics: Metrics,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor(metrics)
        self._client, self._store, self._settings, self._metrics = client, store, settings, metrics
        self._stop = threading.Event()
        self._lost: set[str] = set()
        """Kinds whose watch is reported as lost; each thread changes only its own kind."""
        self._counters = {
            (resource.listed_as, event_type): metrics.watch_events.labels(resource.listed_as, event_type)
            for resource in RESOURCES
            for event_type in (*TYPES, "OTHER")
        }
        self._answered = {resource.listed_as: threading.Event() for resource in DRA_RESOURCES}
        """Per kind of Dynamic Resource Allocation: cleared from `start` until it is listed, or known to be absent."""
        for answered in self._answered.values():
            answered.set()

    def start(self) -> None:
        """Start the threads and return."""
        for answered in self._answered.values():
            answered.clear()
        for resource in RESOURCES:
            self._supervisor.start(f"watch-{resource.listed_as}", partial(self._follow, resource), self._stop)
        self._supervisor.start("tick", self._tick, self._stop)

    def _tick(self) -> None:
        """Apply the current time regularly, so that old values become stale."""
        while not self._stop.is_set():
            self._store.apply((ClockTicked(time.time(), time.monotonic()),))
            self._stop.wait(_TICK_SECONDS)

    def stop(self) -> None:
        """Ask the threads to end; an open stream ends at its next event or timeout."""
        self._stop.set()

    def _follow(self, resource: Resource) -> None:
        version: str | None = None
        failures = 0
        is_other_tried = False
        while not self._stop.is_set():
            failures += 1  # an event sets it to 0 again
            try:
                if version is None:
                    version = self._list(resource)
                started = time.monotonic()
                for newest in self._stream(resource, version):
                    version, failures = newest, 0
                if time.monotonic() - started > _SHORT_WATCH_SECONDS:
                    continue  # a watch without events that ended after its normal duration: resume without a pause
            except _GoneError:
                version = None
                self._failed(resource, "gone")
            except _RefusedError as refusal:
                if _is_absent(resource, refusal):
                    version, failures = None, 0
                    if resource.other_path is not None:
                        resource = replace(resource, path=resource.other_path, other_path=resource.path)
                        is_other_tried = not is_other_tried
                        if is_other_tried:
                            continue
                    self._absent(resource, refusal)
                    self._stop.wait(resource.absent_retry_seconds or _ABSENT_RETRY_SECONDS)
                    continue
                self._report_lost(resource)
                self._failed(resource, str(refusal.status or "connection"))
                log.warning("%s: %s", resource.listed_as, refusal)
            except Exception:  # the supervisor starts this loop again, with a list; until then the state may be outdated
                self._failed(resource, "internal")
                self._report_lost(resource)
                raise
            self._stop.wait(self._backoff(failures))

    def _wait_for_devices(self) -> None:
        """Return once every kind of Dynamic Resource Allocation is listed or known to be absent, or the time is over."""
        deadline = time.monotonic() + _MOST_WAIT_SECONDS
        for answered in self._answered.values():
            while not self._stop.is_set() and not answered.is_set() and time.monotonic() < deadline:
                answered.wait(0.1)

    def _absent(self, resource: Resource, refusal: _RefusedError) -> None:
        """Take over that the API server has no such kind. If it is forbidden, log that once."""
        self._store.apply((Listed(resource.listed_as, ()),))
        self._report_restored(resource)
        answered = self._answered.get(resource.listed_as)
        if refusal.status == 403 and (answered is None or not answered.is_set()):
            log.warning("%s: %s; nodes that serve GPUs by them are not seen: apply the RBAC of this version", resource.listed_as, refusal)
        if answered is not None:
            answered.set()

    def _failed(self, resource: Resource, cause: str) -> None:
        self._metrics.watch_failures.labels(resource.listed_as, cause).inc()

    def _report_restored(self, resource: Resource) -> None:
        """Apply WatchRestored if this kind was reported as lost."""
        if resource.listed_as in self._lost:
            self._lost.discard(resource.listed_as)
            self._store.apply((WatchRestored(resource.listed_as),))

    def _report_lost(self, resource: Resource) -> None:
        """Apply WatchLost, once per outage: from now on the state of this kind may be outdated."""
        if resource.listed_as not in self._lost:
            self._lost.add(resource.listed_as)
            self._store.apply((WatchLost(resource.listed_as, time.monotonic()),))

    def _backoff(self, failures: int) -> float:
        longest = min(self._settings.max_backoff_seconds, 0.05 * 2 ** min(failures, 10))
        return float(longest * _jitter.uniform(0.5, 1.0))

    def _list(self, resource: Resource) -> str:
        """List all pages, apply them as one change, and return the resourceVersion to watch from."""
        changes: list[Seen | SetAside] = []
        query = {"limit": str(self._settings.page_size)}
        while True:
            page = self._decode_page(resource, self._body(resource, query))
            changes += self._read_all(resource, page.items or [])
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        version = page.metadata.resource_version
        if resource.kind == "Node":
            self._wait_for_devices()
        self._store.apply((Listed(resource.listed_as, tuple(changes), int(version) if version.isdigit() else None),))
        if resource.listed_as in self._answered:
            self._answered[resource.listed_as].set()
        return version

    def _body(self, resource: Resource, query: dict[str, str]) -> bytes:
        response = self._get(resource, query)
        try:
            return bytes(response.data)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _RefusedError(0, f"the list broke off: {error}") from error
        finally:
            response.release_conn()

    def _decode_page(self, resource: Resource, data: bytes) -> _ListPage:
        try:
            return _PAGE.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _RefusedError(0, f"the answer is not a list of {resource.listed_as}: {error}") from error

    def _read_all(self, resource: Resource, items: list[Any]) -> list[Seen | SetAside]:
        changes: list[Seen | SetAside] = []
        for item in items:
            try:
                changes.append(self._seen(resource, item))
            except ClusterSourceError as error:
                self._failed(resource, "object")
                log.warning("skipped: %s", error)
        return changes

    def _seen(self, resource: Resource, item: Any) -> Seen | SetAside:
        change = seen_or_set_aside(resource.kind, item)
        if isinstance(change, SetAside):
            self._failed(resource, "object")
        return change

    def _stream(self, resource: Resource, version: str) -> Iterator[str]:
        """Apply events until the stream ends; yields the newest resourceVersion after each batch that has one."""
        seconds = self._settings.watch_seconds
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        with closing(self._get(resource, query)) as response:
            self._report_restored(resource)
            try:
                for lines in line_batches(response):
                    if self._stop.is_set():
                        return
                    batch = self._read_batch(resource, lines)
                    for changes in without_repeats(batch.changes):
                        self._store.apply(changes)
                    if batch.version is not None:
                        yield batch.version
                    if batch.error is not None:
                        raise batch.error
            except (urllib3.exceptions.HTTPError, OSError, LineTooLongError) as error:
                raise _RefusedError(0, f"the watch of {resource.listed_as} broke: {error}") from error

    def _read_batch(self, resource: Resource, lines: list[bytes]) -> _Batch:
        """Decode the events that arrived together.

        A line that is not an event harms no other: the lines around it count, and the watch is resumed at the version before it.
        """
        changes: list[Change] = []
        version: str | None = None
        error: _GoneError | _RefusedError | None = None
        types: Counter[str] = Counter()
        for line in lines:
            try:
                event = watch_event(resource.kind, line)
            except UnreadableLineError as unreadable:
                error = error or _RefusedError(0, f"watch of {resource.listed_as}: {unreadable}")
                continue
            types[event.type if event.type in TYPES else "OTHER"] += 1
            if event.type == "ERROR":
                error = _GoneError() if event.error_code == 410 else _RefusedError(event.error_code, event.error_message)
                break
            if event.problem is not None or isinstance(event.change, SetAside):
                self._failed(resource, "object")
            if event.problem is not None:
                log.warning("skipped: %s", event.problem)
            if event.change is not None:
                changes.append(event.change)
            if error is None:
                version = event.version or version
        for name, count in types.items():
            self._counters[resource.listed_as, name].inc(count)
        return _Batch(changes, version, error)

    def _get(self, resource: Resource, query: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Return an open response with status 200. Raises _GoneError or _RefusedError."""
        query = dict(query)
        if resource.field_selector:
            query["fieldSelector"] = resource.field_selector
        headers = {"Accept": "application/json"}
        timeout = urllib3.Timeout(connect=self._settings.connect_timeout_seconds, read=self._settings.read_timeout_seconds)
        try:
            headers |= credentials(self._client.configuration)
            response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                "GET",
                self._client.configuration.host + resource.path,
                fields=query,
                headers=headers,
                preload_content=False,
                timeout=timeout,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ClusterSourceError) as error:
            raise _RefusedError(0, f"no answer from the API server: {error}") from error
        if response.status == 200:
            return response
        try:
            text = response.data[:300].decode(errors="replace")
        except (urllib3.exceptions.HTTPError, OSError):
            text = ""
        response.release_conn()
        if response.status == 410:
            raise _GoneError
        raise _RefusedError(response.status, f"API server answered {response.status} to {resource.path}: {text}")


def _is_absent(resource: Resource, refusal: _RefusedError) -> bool:
    """Whether the answer means that the API server has no objects of the kind for this client."""
    return (refusal.status == 404 and resource.optional) or (refusal.status == 403 and resource.may_be_forbidden)
