"""The kubelet's device plugin API (v1beta1), as far as a steerer reads or writes it: messages and names.

What is only forwarded stays bytes. Source: kubernetes `staging/src/k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION = "v1beta1"
REGISTRATION, DEVICE_PLUGIN = "v1beta1.Registration", "v1beta1.DevicePlugin"
KUBELET_SOCKET = "kubelet.sock"
"""Name of the kubelet's socket in its folder of device plugins."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a plugin said of itself when it registered."""

    resource: str
    endpoint: str
    """Name of its socket in the kubelet's folder of device plugins."""
    options: bytes
    socket_made: tuple[int, int] | None = None
    """Inode and time of change (ns) of that socket when the plugin registered; None: not known. A plugin that starts anew makes another."""


_STRING, _INT32, _BOOL, _MESSAGE = 9, 5, 8, 11  # FieldDescriptorProto.Type
# message -> (field, number, type, repeated); a type that is a name is that message
_MESSAGES: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "DevicePluginOptions": (("pre_start_required", 1, _BOOL, False), ("get_preferred_allocation_available", 2, _BOOL, False)),
    "RegisterRequest": (
        ("version", 1, _STRING, False),
        ("endpoint", 2, _STRING, False),
        ("resource_name", 3, _STRING, False),
        ("options", 4, "DevicePluginOptions", False),
    ),
    "Device": (("ID", 1, _STRING, False), ("health", 2, _STRING, False)),
    "ListAndWatchResponse": (("devices", 1, "Device", True),),
    "ContainerPreferredAllocationRequest": (
        ("available_deviceIDs", 1, _STRING, True),
        ("must_include_deviceIDs", 2, _STRING, True),
        ("allocation_size", 3, _INT32, False),
    ),
    "PreferredAllocationRequest": (("container_requests", 1, "ContainerPreferredAllocationRequest", True),),
    "ContainerPreferredAllocationResponse": (("deviceIDs", 1, _STRING, True),),
    "PreferredAllocationResponse": (("container_responses", 1, "ContainerPreferredAllocationResponse", True),),
    "ContainerAllocateRequest": (("devices_ids", 1, _STRING, True),),
    "AllocateRequest": (("container_requests", 1, "ContainerAllocateRequest", True),),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="fabricwise/deviceplugin.proto", package="v1beta1", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                made.type, made.type_name = _MESSAGE, f".v1beta1.{kind}"  # type: ignore[assignment]
            else:
                made.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1beta1.{name}")) for name in _MESSAGES}


MESSAGES = _classes()
"""Message classes by name."""


def steered_options(options: bytes) -> bytes:
    """The plugin's options, all as they are, but saying that a preferred allocation is answered."""
    message = MESSAGES["DevicePluginOptions"].FromString(options)
    message.get_preferred_allocation_available = True
    found: bytes = message.SerializeToString()
    return found


def register_request(resource: str, endpoint: str, options: bytes) -> bytes:
    """A registration with the kubelet. `endpoint` is the name of a socket in the kubelet's folder of device plugins."""
    message = MESSAGES["RegisterRequest"](version=VERSION, endpoint=endpoint, resource_name=resource)
    message.options.MergeFromString(options)
    found: bytes = message.SerializeToString()
    return found


def preferred_response(ids: tuple[str, ...]) -> bytes:
    """The answer to a request about one container."""
    message = MESSAGES["PreferredAllocationResponse"]()
    message.container_responses.add(deviceIDs=ids)
    found: bytes = message.SerializeToString()
    return found
