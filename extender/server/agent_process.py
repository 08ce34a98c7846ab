"""`fabricwise agent`: the node agent as a process, with health and metrics on its own port."""

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
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extender.bounded_http import BoundedHandler, BoundedHTTPServer
from extender.errors import SettingsError
from extender.kube.api_client import api_client
from extender.kube.api_requests import ApiRequests
from topology.agent.loop import MAX_PAUSE_SECONDS, Agent, State, read_hardware
from topology.agent.pod_resources import PodResources
from topology.agent.publisher import Publisher
from topology.agent.steerer import DEFAULT_FOLDER, SteererFolder
from topology.agent.sysfs import Sysfs

STALLED_ROUNDS = 5
"""The agent is unhealthy after this number of intervals without a completed round, plus two of the longest pauses."""

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True, slots=True)
class NodeClaim:
    """The node that a pod's bound service account token names (`kubernetes.io.node`, Kubernetes 1.30 and later; KEP-4193)."""

    name: str
    uid: str | None
    """None where the Node did not exist yet when the token was made."""


def node_claim(token: Path) -> NodeClaim | None:
    """Return the node claim of the token in a file; None where there is no token, or it names no node.

    The token is not verified here: the API server does that. A process that can forge the file can forge what is published as well.
    """
    try:
        body = token.read_text().split(".")[1]
        node = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["kubernetes.io"]["node"]
        name, uid = node["name"], node.get("uid")
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return NodeClaim(name, uid if isinstance(uid, str) and uid else None) if isinstance(name, str) and name else None


def claimed_uid(token: Path, node: str) -> str | None:
    """Return the uid of Node `node` by the token in a file, or None where it names no node. Raises SettingsError where it names another."""
    claim = node_claim(token)
    if claim is not None and claim.name != node:
        raise SettingsError(
            f"the agent's node name is {node}, but its token is of a pod on {claim.name}: set NODE_NAME from spec.nodeName as "
            "manifests/agent does, or remove --node-name"
        )
    return claim.uid if claim is not None else None


def node_name(given: str | None, token: Path = TOKEN) -> str:
    """Return the name of this node: as given, from the downward API (NODE_NAME), from the pod's token, else the host's name."""
    name = given or os.environ.get("NODE_NAME")
    if name:
        return name
    claim = node_claim(token)
    return claim.name if claim is not None else socket.gethostname()


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an agent reads, and how often."""

    node: str
    pod_resources: Path
    root: Path = Path("/")
    interval_seconds: float = 5.0
    hardware_seconds: float = 30.0
    heartbeat_seconds: float = 60.0
    allow_no_gpu: bool = False
    kubeconfig: str | None = None
    shared: Path = DEFAULT_FOLDER
    """The folder shared with a steerer on this node; without it there is none."""


def build_agent(options: AgentOptions, publish: bool) -> Agent:
    """Return an agent that does not run yet.

    Raises ClusterSourceError where it is to publish and has no API server, and SettingsError where its token is of another node.
    """
    kernel = Sysfs(options.root)
    publisher = None
    if publish:
        api = ApiRequests(api_client(options.kubeconfig))
        uid = claimed_uid(TOKEN, options.node) if options.kubeconfig is None else None
        publisher = Publisher(api, options.node, options.heartbeat_seconds, time.monotonic, random.Random(), uid)
    kubelet = PodResources(options.pod_resources)
    hardware = partial(read_hardware, kernel, options.allow_no_gpu)
    steerer = SteererFolder(options.shared)
    return Agent(options.node, hardware, kubelet, publisher, options.interval_seconds, options.hardware_seconds, steerer=steerer)


class StateCollector(Collector):
    """The agent's state as Prometheus metrics, read when scraped."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> list[Metric]:
        """Return all metrics."""
        state = self._state
        errors = GaugeMetricFamily("fabricwise_agent_failing", "1 where the last attempt failed", labels=["part"])
        parts = {
            "round": state.round_error,
            "hardware": state.hardware_error,
            "kubelet": state.kubelet_error,
            "publish": state.publish_error,
        }
        for part, error in parts.items():
            errors.add_metric([part], float(error is not None))
        return [
            CounterMetricFamily("fabricwise_agent_rounds", "Rounds in which the node was read", value=state.rounds),
            CounterMetricFamily("fabricwise_agent_failed_rounds", "Rounds that ended in an exception", value=state.failed_rounds),
            CounterMetricFamily("fabricwise_agent_publications", "Writes to the API server", value=state.publications),
            GaugeMetricFamily("fabricwise_agent_gpus", "GPUs of the node", value=state.gpus),
            GaugeMetricFamily("fabricwise_agent_unhealthy_gpus", "GPUs that must not be used", value=state.unhealthy),
            GaugeMetricFamily("fabricwise_agent_last_round_seconds", "Unix time of the last round", value=state.last_round_seconds or 0.0),
            errors,
        ]


def serve_state(state: State, interval_seconds: float, host: str, port: int) -> BoundedHTTPServer:
    """Serve /healthz, /readyz and /metrics in a thread; port 0 takes a free one. Raises SettingsError for a port in use."""
    registry = CollectorRegistry()
    registry.register(StateCollector(state))

    limit_seconds = STALLED_ROUNDS * interval_seconds + 2 * MAX_PAUSE_SECONDS

    def healthy() -> bool:
        last = state.last_round_monotonic_seconds
        return last is not None and time.monotonic() - last < limit_seconds

    class Handler(BoundedHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self.answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case "/healthz":
                    is_healthy = healthy()
                    self.answer(200 if is_healthy else 503, b"ok\n" if is_healthy else b"no round lately\n")
                case "/readyz":
                    problems = state.problems()
                    self.answer(503 if problems else 200, ("\n".join(problems) or "ok").encode() + b"\n")
                case _:
                    self.answer(404, b"only /healthz, /readyz and /metrics\n")

    try:
        server = BoundedHTTPServer((host, port), Handler)
    except OSError as error:
        raise SettingsError(
            f"cannot serve health and metrics on {host}:{port}: {error.strerror or error}: choose another --port, or end what listens there"
        ) from error
    threading.Thread(target=server.serve_forever, name="agent-http", daemon=True).start()
    return server
