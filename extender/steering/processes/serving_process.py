"""The process that serves: its parts put together, and its health and metrics. Loaded only where a process serves, or soon will."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from extender.bounded_http import BoundedHandler, BoundedHTTPServer
from extender.kube.small_connection import connection
from extender.steering.answers.agent_facts import FactsFile
from extender.steering.answers.chooser import Chooser
from extender.steering.answers.node_pods import NodePods
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.processes.hand_over import offer_connections
from extender.steering.processes.options import Options
from extender.steering.processes.serving_status import USELESS
from extender.steering.proxies.counts import Counts, CountsCollector
from extender.steering.proxies.node_steerer import Steerer, healthy_devices
from topology.agent.pod_resources import PodResources

log = logging.getLogger("fabricwise.steering")

_KUBELET_SECONDS = 0.06
"""How long the kubelet may take to say who has devices, of the 0.1 s for an answer."""
_STALLED_SECONDS = 30.0


def serve(options: Options, keeper: Keeper) -> int:
    """Serve until SIGTERM; an exit status."""
    counts, shared = Counts(), options.shared
    pods = NodePods(partial(connection, options.kubeconfig), options.node) if options.decisions else None
    chooser = Chooser(FactsFile(shared / "devices.json").now, pods, PodResources(options.pod_resources, _KUBELET_SECONDS))
    healthy = partial(healthy_devices, PodResources(options.pod_resources, 1.0))
    steerer = Steerer(options.device_plugins, shared, chooser, counts, _version(), healthy=healthy, keeper=keeper)
    signal.signal(signal.SIGTERM, lambda *_: steerer.state.stop.make())
    try:
        offer_connections(keeper, shared)
    except OSError as error:
        log.warning("a steerer that starts beside this one cannot take over: %s: %s", shared, error.strerror or error)
    try:
        server = _serve(steerer, counts, options.host, options.port)
    except OSError as error:
        text = "cannot serve health and metrics on %s:%d: %s: choose another --port"
        log.error(text, options.host, options.port, error.strerror or error)
        return USELESS
    if pods is not None:
        pods.start()
    try:
        steerer.run()
    finally:
        server.shutdown()
    return 0


def _version() -> str:
    try:
        return version("fabricwise")
    except PackageNotFoundError:
        return "unknown"


def _bound(host: str, port: int, handler: type[BoundedHandler]) -> BoundedHTTPServer:
    """A server on a port, which a steerer that has just handed over may hold for a moment. Raises OSError for a port in use."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            return BoundedHTTPServer((host, port), handler)
        time.sleep(0.05)
    return BoundedHTTPServer((host, port), handler)


def _serve(steerer: Steerer, counts: Counts, host: str, port: int) -> BoundedHTTPServer:
    """/healthz and /metrics in a thread of their own. Raises OSError for a port in use."""
    registry = CollectorRegistry()
    registry.register(CountsCollector(counts))

    class Handler(BoundedHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self.answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case "/healthz" | "/readyz":
                    looked = steerer.state.looked_at
                    fine = looked is not None and time.monotonic() - looked < _STALLED_SECONDS
                    self.answer(200 if fine else 503, b"ok\n" if fine else b"no look at the sockets lately\n")
                case _:
                    self.answer(404, b"only /healthz, /readyz and /metrics\n")

    server = _bound(host, port, Handler)
    threading.Thread(target=server.serve_forever, name="steer-http", daemon=True).start()
    return server
