"""A small API server process: it lists a `Cluster` in pages, streams watch events, and is controlled by paths below /bench.

`python -m tests.bench.processes.api_process PORT CLUSTER`, where CLUSTER has the fields of `Cluster` as JSON. Paths of the benchmark:

- GET /bench/status: {"first_request", "last_byte": seconds of the monotonic clock, which all processes share, "events": number sent}
- POST /bench/rate: the body is a number; from now on so many pod events are sent per second, evenly
- POST /bench/events: the body is lines of watch events, which are sent to the watches of pods at once
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from extender.kube.objects.resources import RESOURCES
from tests.bench.clusters import LIST_VERSION, Cluster, node_name, pending_pod, running_pod

PODS = "/api/v1/pods"
GPU_POD_EVERY = 10
"""Of the pods that come and go, one of so many requests a GPU."""


def event(kind: str, pod: bytes) -> bytes:
    """Return one line of a watch."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), pod)


def churn(cluster: Cluster) -> Iterator[bytes]:
    """Yield watch events of pods without end: each pod is added, bound, running, and deleted; four events per pod.

    Events of several pods are interleaved, so that about a hundred of these pods exist at a time.
    """
    versions = itertools.count(LIST_VERSION + 1_000_000)
    in_flight = 100
    for number in itertools.count():
        newest, oldest = number, number - in_flight
        yield _step(cluster, "ADDED", newest, False, next(versions))
        yield _step(cluster, "MODIFIED", newest, True, next(versions))
        yield _step(cluster, "MODIFIED", newest, True, next(versions))
        if oldest >= 0:
            yield _step(cluster, "DELETED", oldest, True, next(versions))


def _step(cluster: Cluster, kind: str, number: int, bound: bool, version: int) -> bytes:
    gpus = 1 if number % GPU_POD_EVERY == 0 else 0
    name = f"event-{number:07d}"
    pod = running_pod(name, node_name(number * 7 % cluster.nodes), gpus, version) if bound else pending_pod(name, gpus, version)
    return event(kind, pod)


class Api:
    """The lists, the watches, and the paths of the benchmark."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._items: dict[str, tuple[Callable[[int], bytes], int]] = {
            "nodes": (cluster.node, cluster.nodes),
            "pods": (cluster.pod, cluster.pods),
            "topologies": (cluster.topology, cluster.nodes),
        }
        self.served = [resource for resource in RESOURCES if resource.listed_as in self._items]
        """The kinds that there are; paths of others are answered with 404."""
        self._watches: dict[str, set[asyncio.Queue[bytes]]] = {resource.path: set() for resource in self.served}
        self._per_second, self._sent = 0.0, 0
        self._first_request: float | None = None
        self._last_byte: float | None = None

    def app(self) -> Starlette:
        """The application."""
        routes = [Route(resource.path, self._listed_or_watched(resource.path, resource.listed_as)) for resource in self.served]
        routes += [Route("/bench/status", self._status), Route("/bench/rate", self._rate, methods=["POST"])]
        routes += [Route("/bench/events", self._events, methods=["POST"])]
        routes += [Route("/{path:path}", _absent, methods=["GET"]), Route("/{path:path}", _echo, methods=["POST", "PUT", "PATCH"])]
        return Starlette(routes=routes, lifespan=self._sending)

    def page(self, listed_as: str, start: int, limit: int, selector: str = "") -> bytes:
        """Return one page of a list. All pods are bound, so that none is selected by an empty node name."""
        make, count = self._items[listed_as]
        count = 0 if listed_as == "pods" and "spec.nodeName=," in selector else count
        end = min(count, start + limit)
        more = f'"continue":"{end}","remainingItemCount":{count - end},' if end < count else ""
        items = b",".join(make(number) for number in range(start, end))
        return b'{"kind":"List","metadata":{%s"resourceVersion":"%d"},"items":[%s]}' % (more.encode(), LIST_VERSION, items)

    def _listed_or_watched(self, path: str, listed_as: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._first_request = self._first_request or time.monotonic()
            if request.query_params.get("watch"):
                return StreamingResponse(self._watch(path), media_type="application/json")
            start, limit = int(request.query_params.get("continue", "0")), int(request.query_params.get("limit", "1000000000"))
            return StreamingResponse(
                self._timed(self.page(listed_as, start, limit, request.query_params.get("fieldSelector", ""))),
                media_type="application/json",
            )

        return answer

    async def _timed(self, body: bytes) -> AsyncIterator[bytes]:
        yield body
        self._last_byte = time.monotonic()

    async def _watch(self, path: str) -> AsyncIterator[bytes]:
        queue = asyncio.Queue[bytes]()
        self._watches[path].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watches[path].discard(queue)

    def _send(self, lines: bytes, count: int) -> None:
        for queue in self._watches[PODS]:
            queue.put_nowait(lines)
        self._sent += count

    @asynccontextmanager
    async def _sending(self, _: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(self._churn())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _churn(self) -> None:
        """Send events at the present rate, each when it is due, as a real API server does."""
        events, due = churn(self._cluster), time.monotonic()
        while True:
            if self._per_second <= 0:
                await asyncio.sleep(0.05)
                due = time.monotonic()
                continue
            self._send(next(events), 1)
            due += 1 / self._per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _status(self, _: Request) -> Response:
        """`watched`: the number of kinds with an open watch; events before that reach no client, because they are not kept."""
        watched = sum(bool(queues) for queues in self._watches.values())
        return JSONResponse({"first_request": self._first_request, "last_byte": self._last_byte, "events": self._sent, "watched": watched})

    async def _rate(self, request: Request) -> Response:
        self._per_second = float(await request.body())
        return Response()

    async def _events(self, request: Request) -> Response:
        lines = await request.body()
        self._send(lines, lines.count(b"\n"))
        return Response()


async def _absent(_: Request) -> Response:
    """Answer that there is no such kind: this API server has no other API groups."""
    return Response(json.dumps({"kind": "Status", "code": 404}), 404, media_type="application/json")


async def _echo(request: Request) -> Response:
    """Accept what is written (events, leases), and answer with it."""
    body = await request.body()
    return Response(body or json.dumps({"kind": "Status"}), 201, media_type="application/json")


def main() -> None:
    """Serve on loopback until the process is ended."""
    app = Api(Cluster(**json.loads(sys.argv[2]))).app()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=600,
    )


if __name__ == "__main__":
    main()
