"""What the steerer adds to one allocation: the same two calls to NVIDIA's plugin directly, and through the steerer."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import grpc

from extender.steering.device_plugin_api import DEVICE_PLUGIN, MESSAGES
from tests.lab.lab import Lab
from tests.lab.real_node import mock_nvml
from tests.lab.real_node.node import DEVICE_PLUGINS


def _allocation_seconds(socket: Path, ids: list[str], size: int, count: int) -> list[float]:
    """Seconds of `count` pairs of GetPreferredAllocation and Allocate, one after another on one connection, as the kubelet makes them."""
    options = [("grpc.default_authority", "localhost")]
    found = []
    with grpc.insecure_channel(f"unix://{socket}", options=options) as channel:
        preferred: Any = channel.unary_unary(f"/{DEVICE_PLUGIN}/GetPreferredAllocation")
        allocate: Any = channel.unary_unary(f"/{DEVICE_PLUGIN}/Allocate")
        for _ in range(count + 10):
            request = MESSAGES["PreferredAllocationRequest"]()
            request.container_requests.add(available_deviceIDs=ids, allocation_size=size)
            started = time.perf_counter()
            answer = MESSAGES["PreferredAllocationResponse"].FromString(preferred(request.SerializeToString(), timeout=10))
            chosen = MESSAGES["AllocateRequest"]()
            chosen.container_requests.add(devices_ids=answer.container_responses[0].deviceIDs)
            allocate(chosen.SerializeToString(), timeout=10)
            found.append(time.perf_counter() - started)
    return found[10:]


def added_milliseconds(lab: Lab, count: int = 200) -> dict[str, float]:
    """Medians in milliseconds: the plugin alone, through the steerer, and the difference. Without a waiting pod, so by the function."""
    ids = [mock_nvml.uuid(index) for index in range(len(lab.node.machine.gpus))]
    (steerer,) = DEVICE_PLUGINS.glob("fabricwise-*.sock")
    alone, through = (
        statistics.median(_allocation_seconds(socket, ids, 2, count)) * 1000 for socket in (DEVICE_PLUGINS / "nvidia-gpu.sock", steerer)
    )
    return {"plugin_alone_ms": round(alone, 2), "through_steerer_ms": round(through, 2), "added_ms": round(through - alone, 2)}
