"""Manifests of pods that wait for devices, and what the agent knows of their node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from extender.steering.choice.waiting_pods import DECISION, NodePod, node_pod
from tests.steering.steered_machine import GPU, facts
from topology.devices.facts_file import decode_facts

FACTS = decode_facts(facts())


def manifest(name: str, mains: Sequence[int], inits: Sequence[int] = (), decided: object = None, **more: Any) -> dict[str, Any]:
    """A pod; `decided` is the decision's list of sets, or any text of an annotation."""
    text = decided if isinstance(decided, str) else json.dumps({"id": "x", "containers": decided})

    def container(kind: str, place: int, size: int) -> dict[str, Any]:
        return {"name": f"{kind}-{place}", "resources": {"limits": {GPU: str(size)}}}

    return {
        "metadata": {"uid": name, "namespace": "team", "name": name, "annotations": {DECISION: text} if decided is not None else None},
        "spec": {
            "containers": [container("main", place, size) for place, size in enumerate(mains)],
            "initContainers": [container("init", place, size) for place, size in enumerate(inits)],
        },
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "lastTransitionTime": more.get("scheduled", "2026-01-01")}]},
    }


def pods(*manifests: dict[str, Any]) -> list[NodePod]:
    """The pods as a steerer reads them; those that wait for nothing are left out."""
    return [pod for one in manifests if (pod := node_pod(one, GPU)) is not None]
