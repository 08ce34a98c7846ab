"""A script of what an API server replies, and a cluster store that follows it by its watch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore

Reply = tuple[int, bytes]
"""(status, body); status 0 breaks the connection after the body."""


def page(*items: dict[str, Any], version: str = "1", more: str = "") -> Reply:
    return 200, json.dumps({"metadata": {"resourceVersion": version, "continue": more}, "items": items}).encode()


def events(*pairs: tuple[str, dict[str, Any]], then: bytes = b"", status: int = 200) -> Reply:
    lines = b"".join(json.dumps({"type": kind, "object": thing}).encode() + b"\n" for kind, thing in pairs)
    return status, lines + then


GONE = ("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


@dataclass
class Script:
    """Replies per (path, list or watch), in order; without further replies, lists are empty and watches wait."""

    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def reply(self, path: str, query: dict[str, str]) -> Reply:
        self.asked.append((path, query))
        waiting = self.replies.get((path, "watch" if "watch" in query else "list"), [])
        if waiting:
            return waiting.pop(0)
        if "watch" in query:
            time.sleep(0.2)
            return 200, b""
        return page()

    def count(self, path: str, how: str) -> int:
        return sum(p == path and (("watch" in q) == (how == "watch")) for p, q in self.asked)


NODES, PODS, TOPOLOGIES = "/api/v1/nodes", "/api/v1/pods", "/apis/fabricwise.dev/v1alpha1/gputopologies"


@dataclass
class Rig:
    """A scripted server, and a cluster store that follows it."""

    script: Script
    store: ClusterStore
    metrics: Metrics
    start: Callable[[], None]

    def wait(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not check():
            assert time.monotonic() < deadline, self.script.asked
            time.sleep(0.01)

    def nodes(self) -> set[str]:
        return set(self.store.snapshot.nodes)
