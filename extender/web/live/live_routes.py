"""The routes of the live view: the cluster as rows, its changes, its past, and the machines of nodes."""

from __future__ import annotations

import gzip
import threading
import time

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.live.device_states import awaited_by_node
from extender.decision.report.live.machine_graph import machine_graph
from extender.decision.report.live.set_bandwidth import SetBandwidth, set_bandwidth
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.web.debug_serializers import no_node
from extender.web.live.cluster_feed import ClusterFeed
from extender.web.live.cluster_history import History
from extender.web.live.event_stream import EventStream
from extender.web.live.live_answers import ClusterAnswer, MachineAnswer
from extender.web.openapi import ErrorAnswer, NodeNameParameter, described
from topology.machine.hardware import MAX_GPUS, Machine, TopologyError

MOST_BANDWIDTHS = 2
"""Bandwidths that are computed at the same time; a further request is answered 503."""

RETRY_SECONDS = 2
COMPRESSED_FROM_BYTES = 4 << 10
COMPRESSION = 1
"""The fastest: rows are alike, and shrink to a twentieth by it."""

_encode = msgspec.json.Encoder().encode


class LiveApi:
    """The routes; docs/web-ui.md describes their answers."""

    def __init__(self, feed: ClusterFeed, service: SchedulingService, settings: Settings) -> None:
        self._feed, self._service, self._settings = feed, service, settings
        self._places = threading.Semaphore(MOST_BANDWIDTHS)

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["live view"], default_response_class=Response)
        for path, endpoint, description in (
            ("/cluster", self.cluster, described(ClusterAnswer)),
            ("/stream", self.stream, described(None, errors=(503,), media_type="text/event-stream")),
            ("/history", self.history, described(History)),
            ("/nodes/{name}/machine", self.machine, described(MachineAnswer, errors=(404,))),
            ("/nodes/{name}/bandwidth", self.bandwidth, described(SetBandwidth, errors=(400, 404, 409, 503))),
        ):
            router.add_api_route(path, endpoint, methods=["GET"], **description)
        return router

    def cluster(self, request: Request) -> Response:
        """The cluster: a row per node with GPUs, and totals. Its position in the stream is `stream`."""
        return _json(self._feed.cluster(), request)

    async def stream(self, last_event_id: str | None = Header(None, max_length=64)) -> Response:
        """The changes of the cluster, as server-sent events, from the position `Last-Event-ID`; without one it begins with `resync`."""
        return EventStream(self._feed, last_event_id, self._settings.server.max_streams)

    def history(self, request: Request) -> Response:
        """Samples of the last hours: free, taken and excluded GPUs, and pods of each size that would fit."""
        return _json(_encode(self._feed.history.answer()), request)

    def machine(self, name: NodeNameParameter, request: Request) -> Response:
        """The machine of a node as a graph, and each of its GPUs now."""
        moment = self._service.moment()
        view = moment.snapshot.views.get(name)
        if view is None:
            return _error(no_node(moment.snapshot, name), 404)
        snapshot = moment.snapshot
        awaited = awaited_by_node(snapshot, moment.assumed_pods, moment.monotonic_seconds)
        tuning, share = self._service.store.defaults.tuning, self._settings.filtering.usable_memory_share
        graph = machine_graph(view, snapshot.telemetry.get(name), awaited.get(name, ()), snapshot.monotonic_seconds, tuning, share)
        age = round(snapshot.age_seconds(moment.monotonic_seconds), 1)
        fields = {field: getattr(graph, field) for field in graph.__struct_fields__}
        answer = MachineAnswer(**fields, revision=snapshot.revision, at_seconds=round(time.time(), 3), state_age_seconds=age)
        return _json(_encode(answer), request)

    def bandwidth(
        self,
        name: NodeNameParameter,
        request: Request,
        gpus: str = Query(description="nvidia-smi indices, separated by commas: 0,1,4", max_length=100),
    ) -> Response:
        """The bandwidth of a set of GPUs of a node, whether they are free or not, and what limits it."""
        moment = self._service.moment()
        found = _machine(moment, name)
        if isinstance(found, Response):
            return found
        try:
            indices = _indices(gpus)
        except ValueError:
            return _error(f"gpus={gpus[:100]!r} is not a list of GPU indices; an example: gpus=0,1,4", 400)
        if not self._places.acquire(blocking=False):
            return _error("other bandwidths are being computed; try again in some seconds", 503, {"Retry-After": str(RETRY_SECONDS)})
        try:
            return _json(_encode(set_bandwidth(name, found, indices, self._settings.scoring.messages)), request)
        except TopologyError as error:
            return _error(str(error), 400)
        finally:
            self._places.release()


def _machine(moment: Moment, name: str) -> Machine | Response:
    view = moment.snapshot.views.get(name)
    if view is None:
        return _error(no_node(moment.snapshot, name), 404)
    if view.machine is None or view.state.table is None:
        return _error(f"the links of {name[:253]} are not known: {view.problem or view.state.note}", 409)
    return view.machine


def _indices(text: str) -> tuple[int, ...]:
    """Return the indices of a list with commas. Raises ValueError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts) or len(parts) > MAX_GPUS:
        raise ValueError(text)
    return tuple(map(int, parts))


def _json(content: bytes, request: Request) -> Response:
    """Return an answer, compressed where it is long and the client accepts that."""
    headers = {"Vary": "Accept-Encoding"}
    if len(content) >= COMPRESSED_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = gzip.compress(content, COMPRESSION, mtime=0), "gzip"
    return Response(content, 200, headers, media_type="application/json")


def _error(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(ErrorAnswer(text)), status, headers, media_type="application/json")
