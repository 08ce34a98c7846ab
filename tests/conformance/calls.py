"""The calls of the conformance cases, and the objects that they are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conftest import Served
from tests.objects import node, pod, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus

KEYS = ["Nodes", "NodeNames", "FailedNodes", "FailedAndUnresolvableNodes", "Error"]
Args = dict[str, Any]


def filtered(served: Served, manifest: Args, names: list[str]) -> Args:
    answer: Args = served.client.post("/scheduler/filter", json={"Pod": manifest, "Nodes": None, "NodeNames": names}).json()
    return answer


def scored(served: Served, manifest: Args, names: list[str]) -> dict[str, int]:
    rows = served.client.post("/scheduler/prioritize", json={"Pod": manifest, "Nodes": None, "NodeNames": names}).json()
    return {row["Host"]: row["Score"] for row in rows}


def preempted(served: Served, manifest: Args, victims: dict[str, list[str]]) -> dict[str, list[str]]:
    candidates = {name: {"Pods": [{"UID": uid} for uid in uids], "NumPDBViolations": 0} for name, uids in victims.items()}
    args = {"Pod": manifest, "NodeNameToVictims": None, "NodeNameToMetaVictims": candidates}
    answer = served.client.post("/scheduler/preempt", json=args).json()
    assert list(answer) == ["NodeNameToMetaVictims"]
    return {name: [victim["UID"] for victim in meta["Pods"]] for name, meta in answer["NodeNameToMetaVictims"].items()}


def assumed_pods(served: Served) -> dict[str, str]:
    return {row["uid"]: row["node"] for row in served.client.get("/v1/assumed-pods").json()["assumed_pods"]}


def named(size: int, name: str, **more: Any) -> Args:
    return pod(size, name=name, **more)


Small = Callable[..., Served]


def full_v100(**victims: tuple[int, ...]) -> list[Args]:
    """Return a DGX-1V node, and pods with the GPUs that its agent reports for them."""
    allocated = tuple(Allocation(index, f"uid-{name}") for name, indices in victims.items() for index in indices)
    pods = [pod(len(indices), name=name, node="dgx") for name, indices in victims.items()]
    return [node("dgx", 8), topology("dgx", "dgx-1v", DeviceStatus(allocated=allocated)), *pods]


def nominated(size: int, name: str = "preemptor", **annotations: str) -> Args:
    prefixed = {f"fabricwise.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return pod(size, name=name, annotations=prefixed, spec={"priority": 100}, status={"nominatedNodeName": "dgx"})


TERMINATING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def terminating(manifest: Args) -> Args:
    return {**manifest, "metadata": {**manifest["metadata"], **TERMINATING}}
