"""A fake kubelet: the PodResources service on a real gRPC server and a unix socket."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from topology.agent import pod_resources_pb2 as messages
from topology.agent.pod_resources import SERVICE

Held = dict[tuple[str, str, str], dict[str, list[str]]]
"""(namespace, pod, container) -> resource -> device ids."""


class Kubelet:
    """Answers List from `held` and GetAllocatableResources from `offered`.

    `failing` makes it refuse List; `without_allocatable` makes it refuse GetAllocatableResources, as a kubelet before Kubernetes 1.28 may.
    """

    def __init__(self, socket: Path) -> None:
        self.socket, self.held, self.offered = socket, Held(), dict[str, list[str]]()
        self.failing = self.without_allocatable = False
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handlers = {
            "List": self._handler(self._list, messages.ListPodResourcesRequest),
            "GetAllocatableResources": self._handler(self._allocatable, messages.AllocatableResourcesRequest),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def _handler(self, method: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            method, request_deserializer=request.FromString, response_serializer=lambda response: response.SerializeToString()
        )

    def _list(self, _request: Any, context: grpc.ServicerContext) -> Any:
        if self.failing:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the device manager is not ready")
        response = messages.ListPodResourcesResponse()
        for (namespace, pod, container), resources in self.held.items():
            container_resources = response.pod_resources.add(name=pod, namespace=namespace).containers.add(name=container)
            for resource, devices in resources.items():
                container_devices = container_resources.devices.add(resource_name=resource, device_ids=devices)
                container_devices.topology.nodes.add(ID=1)
        return response

    def _allocatable(self, _request: Any, context: grpc.ServicerContext) -> Any:
        if self.without_allocatable:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Pod Resources API GetAllocatableResources disabled")
        response = messages.AllocatableResourcesResponse()
        for resource, devices in self.offered.items():
            response.devices.add(resource_name=resource, device_ids=devices)
        return response

    def close(self) -> None:
        """Stop serving."""
        self._server.stop(None).wait()
