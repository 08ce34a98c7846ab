"""Every answer of the extender about a recorded cluster, over its HTTP application, without what depends on the clock."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from extender.decision.state.changes import Change, ClockTicked, Listed, TelemetrySeen
from extender.kube.objects.decode import seen
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from tests.conftest import serve
from tests.recorded.recorded_clusters import NOW_SECONDS, Object, RecordedCluster

STEADY_SECONDS = 1_000.0
"""The monotonic time at which a recorded cluster is looked at: telemetry ages by it."""

TIMED = frozenset({"at_seconds", "took_seconds", "age_seconds", "ends_in_seconds", "state_age_seconds", "revision", "decision_id"})
"""Fields that differ from run to run."""

_KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}


def answers_of(cluster: RecordedCluster) -> dict[str, Any]:
    """Return "what was asked" -> the answer, for the verbs and the debug API."""
    settings = Settings(server=Server(log_level="error"))
    service = build_service(settings)
    service.store.apply(_changes(cluster))
    nodes = [manifest["metadata"]["name"] for manifest in cluster.objects if manifest["kind"] == "Node"]
    found: dict[str, Any] = {}
    with contextmanager(serve)(service, simulated(settings.resource)) as served:
        client = served.client
        for pod in cluster.requests:
            found |= {f"{pod['metadata']['name']} {ask}": answer for ask, answer in _asked_about(client, pod, nodes, cluster).items()}
        paths = [
            "nodes",
            "reports",
            "assumed-pods",
            "decisions?limit=1000",
            *(f"nodes/{name}{more}" for name in nodes for more in ("", "/report")),
        ]
        for path in paths:
            found[f"GET {path}"] = client.get(f"/v1/{path}").json()
    return {ask: _untimed(answer) for ask, answer in found.items()}


def _changes(cluster: RecordedCluster) -> list[Change]:
    listings = [Listed(kind, tuple(seen(own, m) for m in cluster.objects if m["kind"] == own)) for own, kind in _KINDS.items()]
    looks = [TelemetrySeen(node, STEADY_SECONDS, readings, (), (), "recorded") for node, readings in cluster.telemetry.items()]
    return [*listings, ClockTicked(NOW_SECONDS, STEADY_SECONDS), *looks, ClockTicked(NOW_SECONDS + 1, STEADY_SECONDS + 1)]


def _asked_about(client: httpx.Client, pod: Object, nodes: list[str], cluster: RecordedCluster) -> dict[str, Any]:
    explained = client.post("/v1/explain", json=pod).json()
    passed = client.post("/scheduler/filter", json={"Pod": pod, "Nodes": None, "NodeNames": nodes}).json()
    names = passed.get("NodeNames") or nodes
    scored = client.post("/scheduler/prioritize", json={"Pod": pod, "Nodes": None, "NodeNames": names}).json()
    victims = {
        node: {"Pods": [{"UID": m["metadata"]["uid"]} for m in cluster.objects if _is_on(m, node)], "NumPDBViolations": 0} for node in nodes
    }
    args = {"Pod": pod, "NodeNameToVictims": None, "NodeNameToMetaVictims": victims}
    return {"explain": explained, "filter": passed, "prioritize": scored, "preempt": client.post("/scheduler/preempt", json=args).json()}


def _is_on(manifest: Object, node: str) -> bool:
    return bool(manifest["kind"] == "Pod" and manifest["spec"].get("nodeName") == node)


def _untimed(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_untimed(one) for one in answer]
    if isinstance(answer, Mapping):
        return {key: _untimed(value) for key, value in answer.items() if key not in TIMED}
    return answer
