"""Answers of the debug API for tests of `fabricwise top`, and a source of data that gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extender.cli.top.live_data import Answer, Query, Unanswered


def node_row(name: str, **more: Any) -> dict[str, Any]:
    """A row of /v1/cluster."""
    row = {"name": name, "product": "H100", "fabric": "NVSwitch", "gpus": 8, "states": "ttffffff", "free": 6, "pressure": 0.5, "pods": 1}
    return {**row, "problems": 0, "why_unschedulable": None, **more}


def pod_row(name: str, **more: Any) -> dict[str, Any]:
    """A row of /v1/pods."""
    row = {"namespace": "team", "name": name, "uid": name, "state": "bound", "gpus": 2, "node": "gpu-a", "devices": [0, 1]}
    return {**row, "busbw_gbps": 200.0, "expected_gbps": 200.0, "floor_gbps": None, "priority": 0, "message": None, **more}


class CannedData:
    """Answers from a table; a path without an entry is not answered."""

    source = "a table"

    def __init__(self, nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[Query], Answer]] = {
            "/v1/cluster": lambda _query: {
                "cluster": "test",
                "totals": {"nodes": len(nodes), "gpus": 8, "free": 6, "taken": 2},
                "pending": 1,
                "state_age_seconds": 0.0,
                "synced": True,
                "nodes": nodes,
            },
            "/v1/pods": lambda _query: {"pods": pods, "next": None, "total": len(pods)},
        }

    async def get(self, path: str, query: Query | None = None) -> Answer:
        """See `LiveData.get`."""
        self.asked.append(path)
        answer = self.answers.get(path)
        return Unanswered(f"no answer to {path}") if answer is None else answer(query or {})

    async def close(self) -> None:
        """Nothing is open."""
