"""Which pod holds which device, from the kubelet's PodResources API (v1) over its unix socket.

The messages declare only the fields that are read here; protobuf skips the other fields that the kubelet sends.
Source: kubernetes `staging/src/k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DEFAULT_SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
SERVICE = "v1.PodResourcesLister"
_MOST_BYTES = 16 << 20
"""The kubelet's own limit is 16 MiB; gRPC's default of 4 is too little for a full node."""

_STRING, _INT64, _MESSAGE = 9, 3, 11  # FieldDescriptorProto.Type
# message -> (field, number, type, repeated); a type that is a name is that message
_MESSAGES: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "NUMANode": (("ID", 1, _INT64, False),),
    "TopologyInfo": (("nodes", 1, "NUMANode", True),),
    "ContainerDevices": (
        ("resource_name", 1, _STRING, False),
        ("device_ids", 2, _STRING, True),
        ("topology", 3, "TopologyInfo", False),
    ),
    "ContainerResources": (("name", 1, _STRING, False), ("devices", 2, "ContainerDevices", True)),
    "PodResources": (("name", 1, _STRING, False), ("namespace", 2, _STRING, False), ("containers", 3, "ContainerResources", True)),
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", 1, "PodResources", True),),
    "AllocatableResourcesRequest": (),
    "AllocatableResourcesResponse": (("devices", 1, "ContainerDevices", True),),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="fabricwise/podresources.proto", package="v1", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                made.type, made.type_name = _MESSAGE, f".v1.{kind}"  # type: ignore[assignment]
            else:
                made.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in _MESSAGES}


MESSAGES = _classes()
"""Message classes by name."""


class PodResourcesError(Exception):
    """The kubelet did not answer; the message says where and why."""


@dataclass(frozen=True, slots=True)
class AssumedPodSettings:
    """Devices of one resource that a container holds."""

    namespace: str
    pod: str
    container: str
    resource: str
    device_ids: tuple[str, ...]
    numa_nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocatable:
    """Devices of one resource that the kubelet could hand out, held or not."""

    resource: str
    device_ids: tuple[str, ...]
    numa_nodes: tuple[int, ...] = ()


def physical(device_id: str) -> str:
    """The device behind an id: `GPU-...::3` (a shared replica) is a part of `GPU-...`."""
    return device_id.partition("::")[0]


class PodResources:
    """A client of the kubelet on one socket."""

    def __init__(self, socket: Path = DEFAULT_SOCKET, timeout_seconds: float = 10.0) -> None:
        self._socket, self._timeout_seconds = socket, timeout_seconds

    def list(self) -> tuple[AssumedPodSettings, ...]:
        """What every container of the node holds. Raises PodResourcesError."""
        answer = self._ask("List", "ListPodResources")
        return tuple(
            AssumedPodSettings(pod.namespace, pod.name, container.name, devices.resource_name, tuple(devices.device_ids), _numa(devices))
            for pod in answer.pod_resources
            for container in pod.containers
            for devices in container.devices
        )

    def allocatable(self) -> tuple[Allocatable, ...]:
        """What the kubelet could hand out. Raises PodResourcesError."""
        answer = self._ask("GetAllocatableResources", "AllocatableResources")
        return tuple(Allocatable(devices.resource_name, tuple(devices.device_ids), _numa(devices)) for devices in answer.devices)

    def _ask(self, method: str, messages: str) -> Any:
        if not self._socket.exists():
            raise PodResourcesError(f"{self._socket}: no such socket")
        request, response = MESSAGES[f"{messages}Request"], MESSAGES[f"{messages}Response"]
        read: Callable[[bytes], Any] = response.FromString
        with grpc.insecure_channel(f"unix://{self._socket}", options=[("grpc.max_receive_message_length", _MOST_BYTES)]) as channel:
            call = channel.unary_unary(f"/{SERVICE}/{method}", request_serializer=request.SerializeToString, response_deserializer=read)
            try:
                return call(request(), timeout=self._timeout_seconds)
            except grpc.RpcError as error:
                raise PodResourcesError(f"{self._socket}: {method}: {error.code().name}: {error.details()}") from error


def _numa(devices: Any) -> tuple[int, ...]:
    return tuple(node.ID for node in devices.topology.nodes)
