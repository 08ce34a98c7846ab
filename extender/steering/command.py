"""`fabricwise steer` on the command line. It runs on every GPU node and must stay small."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from extender.errors import SettingsError
from extender.logs import log_to_stderr
from extender.steering.chooser import Chooser, FactsFile
from extender.steering.counts import Counts, CountsCollector
from extender.steering.kept import Keeper
from extender.steering.node_pods import NodePods
from extender.steering.steerer import Steerer, healthy_devices
from extender.steering.worker import USELESS, Steerers, offer_connections
from topology.agent.pod_resources import DEFAULT_SOCKET, PodResources

if TYPE_CHECKING:
    from extender.kube.api_client import Client

log = logging.getLogger("fabricwise.steering")

DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
SHARED = Path("/run/fabricwise")
_KUBELET_SECONDS = 0.06
"""How long the kubelet may take to say who has devices, of the 0.1 s for an answer."""
_STALLED_SECONDS = 30.0

app = typer.Typer()


@app.command()
def steer(
    node: Annotated[str | None, typer.Option("--node-name", help="The node. Else $NODE_NAME, else the host's name.")] = None,
    device_plugins: Annotated[Path, typer.Option("--device-plugins", help="The kubelet's folder of device plugins.")] = DEVICE_PLUGINS,
    shared: Annotated[Path, typer.Option("--shared", help="The folder shared with the agent.")] = SHARED,
    pod_resources: Annotated[Path, typer.Option("--pod-resources", help="The kubelet's PodResources socket.")] = DEFAULT_SOCKET,
    stand_by: Annotated[bool, typer.Option("--stand-by", help="Serve only once no other steerer on this node does.")] = False,
    decisions: Annotated[bool, typer.Option("--decisions/--no-decisions", help="Read recorded decisions at the API server.")] = True,
    host: Annotated[str, typer.Option("--host")] = "0.0.0.0",  # noqa: S104 - probes come from the kubelet
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Health and metrics.")] = 9479,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="Outside a cluster.")] = None,
) -> None:
    """Answer which GPUs a container gets, between the kubelet and NVIDIA's device plugin; see docs/steering.md."""
    log_to_stderr("INFO")
    name = node or os.environ.get("NODE_NAME") or socket.gethostname()
    if not device_plugins.is_dir():
        raise SettingsError(
            f"{device_plugins} is no folder: mount the kubelet's folder of device plugins, or name it with --device-plugins"
        )

    def work(keeper: Keeper) -> int:
        counts = Counts()
        pods = NodePods(partial(_connect, kubeconfig), name) if decisions else None
        chooser = Chooser(FactsFile(shared / "devices.json").now, pods, PodResources(pod_resources, _KUBELET_SECONDS))
        healthy = partial(healthy_devices, PodResources(pod_resources, 1.0))
        steerer = Steerer(device_plugins, shared, chooser, counts, _version(), healthy=healthy, keeper=keeper)
        signal.signal(signal.SIGTERM, lambda *_: steerer.state.stop.set())
        try:
            offer_connections(keeper, shared)
        except OSError as error:
            log.warning("a steerer that starts beside this one cannot take over: %s: %s", shared, error.strerror or error)
        try:
            server = _serve(steerer, counts, host, port)
        except OSError as error:
            log.error("cannot serve health and metrics on %s:%d: %s: choose another --port", host, port, error.strerror or error)
            return USELESS
        if pods is not None:
            pods.start()
        try:
            steerer.run()
        finally:
            server.shutdown()
        return 0

    if decisions and not stand_by:
        import_module("extender.kube.api_client")  # before the serving processes are forked: none waits for it then
    raise typer.Exit(Steerers(work, shared).run(stand_by))


def _connect(kubeconfig: str | None) -> Client:
    from extender.kube.api_client import api_client

    return api_client(kubeconfig)


def _version() -> str:
    try:
        return version("fabricwise")
    except PackageNotFoundError:
        return "unknown"


def _bound(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server on a port, which a steerer that has just handed over may hold for a moment. Raises OSError for a port in use."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            return ThreadingHTTPServer((host, port), handler)
        time.sleep(0.05)
    return ThreadingHTTPServer((host, port), handler)


def _serve(steerer: Steerer, counts: Counts, host: str, port: int) -> ThreadingHTTPServer:
    """/healthz and /metrics in a thread of their own. Raises OSError for a port in use."""
    registry = CollectorRegistry()
    registry.register(CountsCollector(counts))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case "/healthz" | "/readyz":
                    looked = steerer.state.looked_at
                    fine = looked is not None and time.monotonic() - looked < _STALLED_SECONDS
                    self._answer(200 if fine else 503, b"ok\n" if fine else b"no look at the sockets lately\n")
                case _:
                    self._answer(404, b"only /healthz, /readyz and /metrics\n")

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not news."""

    server = _bound(host, port, Handler)
    threading.Thread(target=server.serve_forever, name="steer-http", daemon=True).start()
    return server
