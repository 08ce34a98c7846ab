"""Which pod holds which device, from the kubelet's PodResources API (v1) over its unix socket.

The messages are generated from `pod_resources.proto`, which declares only the fields that are read here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from topology.agent import pod_resources_pb2 as messages

DEFAULT_SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
SERVICE = messages.DESCRIPTOR.services_by_name["PodResourcesLister"].full_name
_MAX_RESPONSE_BYTES = 16 << 20
"""The kubelet's own limit is 16 MiB. gRPC's default of 4 MiB is too little for a full node."""

_Response = TypeVar("_Response", bound=Message)


class PodResourcesError(Exception):
    """The kubelet did not answer; the message says where and why."""


@dataclass(frozen=True, slots=True)
class AllocatedDevices:
    """Devices of one resource that the kubelet allocated to a container."""

    namespace: str
    pod: str
    container: str
    resource: str
    device_ids: tuple[str, ...]
    numa_nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AllocatableDevices:
    """Devices of one resource that the device plugin offers to the kubelet, allocated or not."""

    resource: str
    device_ids: tuple[str, ...]
    numa_nodes: tuple[int, ...] = ()


def physical_device(device_id: str) -> str:
    """Return the id of the physical device behind a device id: `GPU-...::3`, a shared replica, is a part of `GPU-...`."""
    return device_id.partition("::")[0]


class PodResources:
    """A client of the kubelet on one unix socket."""

    def __init__(self, socket: Path = DEFAULT_SOCKET, timeout_seconds: float = 10.0) -> None:
        self._socket, self._timeout_seconds = socket, timeout_seconds

    def list(self) -> tuple[AllocatedDevices, ...]:
        """Return the devices of every container on the node. Raises PodResourcesError."""
        response = self._call("List", messages.ListPodResourcesRequest(), messages.ListPodResourcesResponse.FromString)
        return tuple(
            AllocatedDevices(
                namespace=pod.namespace,
                pod=pod.name,
                container=container.name,
                resource=devices.resource_name,
                device_ids=tuple(devices.device_ids),
                numa_nodes=_numa_nodes(devices),
            )
            for pod in response.pod_resources
            for container in pod.containers
            for devices in container.devices
        )

    def allocatable(self) -> tuple[AllocatableDevices, ...]:
        """Return the devices that the kubelet can allocate. Raises PodResourcesError."""
        parse = messages.AllocatableResourcesResponse.FromString
        response = self._call("GetAllocatableResources", messages.AllocatableResourcesRequest(), parse)
        return tuple(
            AllocatableDevices(devices.resource_name, tuple(devices.device_ids), _numa_nodes(devices)) for devices in response.devices
        )

    def _call(self, method: str, request: Message, parse: Callable[[bytes], _Response]) -> _Response:
        if not self._socket.exists():
            raise PodResourcesError(f"{self._socket}: no such socket")
        options = [("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES)]
        with grpc.insecure_channel(f"unix://{self._socket}", options=options) as channel:
            call: Callable[..., _Response] = channel.unary_unary(
                f"/{SERVICE}/{method}", request_serializer=lambda message: message.SerializeToString(), response_deserializer=parse
            )
            try:
                return call(request, timeout=self._timeout_seconds)
            except grpc.RpcError as error:
                raise PodResourcesError(f"{self._socket}: {method}: {error.code().name}: {error.details()}") from error


def _numa_nodes(devices: messages.ContainerDevices) -> tuple[int, ...]:
    return tuple(node.ID for node in devices.topology.nodes)
