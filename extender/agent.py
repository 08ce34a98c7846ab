"""`fabricwise agent`: the node agent as a process, with health and metrics on a port of its own."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extender.adapters.kube_client import api_client
from extender.adapters.kube_objects import KubeObjects
from extender.errors import SettingsError
from topology.agent.loop import Agent, State, read_hardware
from topology.agent.pod_resources import PodResources
from topology.agent.publisher import Publisher
from topology.agent.sysfs import Sysfs

STALLED_ROUNDS = 5
"""Intervals without a round after which the agent is no longer healthy."""


TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def node_uid(token: Path, node: str) -> str | None:
    """The Node's uid out of the claims of the pod's own token (Kubernetes 1.32 and later); None where it has none, or of another node.

    The token is not verified here: whoever could forge the file could as well forge what we publish, and the server checks it.
    """
    try:
        body = token.read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["kubernetes.io"]["node"]
        return str(claims["uid"]) if claims["name"] == node else None
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def node_name(given: str | None) -> str:
    """The node this runs on: as given, from the downward API (NODE_NAME), else the host's name."""
    return given or os.environ.get("NODE_NAME") or socket.gethostname()


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How an agent looks at its node."""

    node: str
    pod_resources: Path
    root: Path = Path("/")
    interval_seconds: float = 5.0
    hardware_seconds: float = 30.0
    heartbeat_seconds: float = 60.0
    allow_no_gpu: bool = False
    kubeconfig: str | None = None


def build_agent(options: AgentOptions, publish: bool) -> Agent:
    """An agent, not yet running. Raises ClusterSourceError where it is to publish and has no API server."""
    kernel = Sysfs(options.root)
    publisher = None
    if publish:
        api = KubeObjects(api_client(options.kubeconfig))
        uid = node_uid(TOKEN, options.node) if options.kubeconfig is None else None
        publisher = Publisher(api, options.node, options.heartbeat_seconds, time.time, random.Random(), uid)
    kubelet = PodResources(options.pod_resources)
    hardware = partial(read_hardware, kernel, options.allow_no_gpu)
    return Agent(options.node, hardware, kubelet, publisher, options.interval_seconds, options.hardware_seconds)


class StateCollector(Collector):
    """The agent's state as Prometheus metrics, read when scraped."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> list[Metric]:
        """All metrics."""
        state = self._state
        errors = GaugeMetricFamily("fabricwise_agent_failing", "1 where the last attempt failed", labels=["part"])
        for part, error in (("hardware", state.hardware_error), ("kubelet", state.kubelet_error), ("publish", state.publish_error)):
            errors.add_metric([part], float(error is not None))
        return [
            CounterMetricFamily("fabricwise_agent_rounds", "Looks at the node", value=state.rounds),
            CounterMetricFamily("fabricwise_agent_publications", "Writes to the API server", value=state.publications),
            GaugeMetricFamily("fabricwise_agent_gpus", "GPUs of the node", value=state.gpus),
            GaugeMetricFamily("fabricwise_agent_unhealthy_gpus", "GPUs that must not be used", value=state.unhealthy),
            GaugeMetricFamily("fabricwise_agent_last_round_seconds", "Unix time of the last look", value=state.last_round_seconds or 0.0),
            errors,
        ]


def serve_state(state: State, interval_seconds: float, host: str, port: int) -> ThreadingHTTPServer:
    """/healthz, /readyz and /metrics in a thread of their own; port 0 takes a free one. Raises SettingsError for a port in use."""
    registry = CollectorRegistry()
    registry.register(StateCollector(state))

    def healthy() -> bool:
        return state.last_round_seconds is not None and time.time() - state.last_round_seconds < STALLED_ROUNDS * interval_seconds + 30

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case "/healthz":
                    self._answer(200 if healthy() else 503, b"ok\n" if healthy() else b"no round lately\n")
                case "/readyz":
                    ready = state.rounds > 0 and state.publish_error is None
                    self._answer(200 if ready else 503, b"ok\n" if ready else (state.publish_error or "no round yet").encode() + b"\n")
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

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise SettingsError(
            f"cannot serve health and metrics on {host}:{port}: {error.strerror or error}: choose another --port, or end what listens there"
        ) from error
    threading.Thread(target=server.serve_forever, name="agent-http", daemon=True).start()
    return server
