"""Objects of one node `n` with four GPUs: its topology, pods whose status names devices, and what is free on it."""

from __future__ import annotations

from typing import Any

from extender.decision.node.node_state import NodeView
from extender.decision.state.changes import ClockTicked
from extender.decision.state.fold.reducer import fold
from tests.objects import GPU, node, pod, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of

NOW = 1_790_000_000.0
TIME = "2026-09-21T14:13:20Z"  # = NOW


def topology(status: DeviceStatus | None, platform: str = "t4") -> dict[str, Any]:
    """The GpuTopology of the node; device n has the UUID `GPU-u-n`."""
    return encode(TopologyRecord("n", machine_of(platform, "u"), status))


def running(name: str, *groups: tuple[int, ...], at: str | None = TIME, prefix: str = "GPU-u-") -> dict[str, Any]:
    """A pod on n whose status names the devices of each container."""
    manifest = pod(*(len(group) for group in groups), name=name, node="n")
    manifest["status"] = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", **({"lastTransitionTime": at} if at else {})}],
        "containerStatuses": [
            {
                "name": f"c{number}",
                "allocatedResourcesStatus": [
                    {"name": GPU, "resources": [{"resourceID": f"{prefix}{i}", "health": "Healthy"} for i in group]}
                ],
            }
            for number, group in enumerate(groups)
        ],
    }
    return manifest


def view(*objects: dict[str, Any], now: float | None = None) -> NodeView:
    """The view of the node with these objects, at a Unix time."""
    state = snapshot(node("n", 4), *objects)
    return (fold(state, ClockTicked(now), GPU) if now else state).views["n"]


def free(node_view: NodeView) -> list[tuple[int, ...]]:
    """The free sets as nvidia-smi indices, most probable first."""
    return [tuple(i for i in range(4) if mask >> i & 1) for mask, _ in node_view.state.free_sets]
