"""A kubelet's registration service and a device plugin, played by real gRPC servers on unix sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from extender.steering.device_plugin_api import DEVICE_PLUGIN, MESSAGES, REGISTRATION, register_request


def wait_for(what: str, check: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll until `check` is true. Fails naming what did not come."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.01)


class FakePlugin:
    """NVIDIA's plugin as it is seen from outside: it registers where it is pointed to, and answers."""

    def __init__(self, folder: Path, ids: tuple[str, ...], resource: str = "nvidia.com/gpu", endpoint: str = "nvidia-gpu.sock") -> None:
        self.folder, self.ids, self.resource, self.endpoint = folder, ids, resource, endpoint
        self.preferred: Callable[[Any], tuple[str, ...]] = lambda request: tuple(request.available_deviceIDs)[-request.allocation_size :]
        self.preferred_delay_seconds = self.allocate_delay_seconds = 0.0
        self.allocated: list[bytes] = []
        self.prestarted: list[bytes] = []
        self._stop = threading.Event()
        self._lists = 0
        self._changed = threading.Condition()
        socket = folder / endpoint
        socket.unlink(missing_ok=True)
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        handlers: dict[str, Any] = {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(lambda _request, _context: b""),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._list),
            "GetPreferredAllocation": grpc.unary_unary_rpc_method_handler(self._preferred),
            "Allocate": grpc.unary_unary_rpc_method_handler(self._allocate),
            "PreStartContainer": grpc.unary_unary_rpc_method_handler(self._prestart),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(DEVICE_PLUGIN, handlers),))
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def register(self, socket: Path) -> None:
        """Register at a kubelet's, or a steerer's, socket."""
        with grpc.insecure_channel(f"unix://{socket}") as channel:
            call: Any = channel.unary_unary(f"/{REGISTRATION}/Register")
            call(register_request(self.resource, self.endpoint, b""), timeout=5, wait_for_ready=True)

    def close(self) -> None:
        """End: streams break off."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._server.stop(None).wait()

    def change(self, ids: tuple[str, ...]) -> None:
        """List other devices from now on."""
        with self._changed:
            self.ids = ids
            self._lists += 1
            self._changed.notify_all()

    def list_message(self) -> bytes:
        """The bytes of the present list, with a field that the steerer does not know."""
        message = MESSAGES["ListAndWatchResponse"]()
        for device in self.ids:
            message.devices.add(ID=device, health="Healthy")
        unknown = b"\x7a\x03new"  # field 15, three bytes
        found: bytes = message.SerializeToString() + unknown
        return found

    def _list(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        while not self._stop.is_set() and context.is_active():
            with self._changed:
                number = self._lists
                yield self.list_message()
                while not self._stop.is_set() and self._lists == number and context.is_active():
                    self._changed.wait(0.2)

    def _preferred(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        time.sleep(self.preferred_delay_seconds)
        response = MESSAGES["PreferredAllocationResponse"]()
        for one in MESSAGES["PreferredAllocationRequest"].FromString(request).container_requests:
            try:
                response.container_responses.add(deviceIDs=self.preferred(one))
            except ValueError as error:
                context.abort(grpc.StatusCode.UNKNOWN, str(error))
        found: bytes = response.SerializeToString()
        return found

    def _allocate(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        time.sleep(self.allocate_delay_seconds)
        self.allocated.append(request)
        return b"\x0a\x00answer of the plugin"

    def _prestart(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.prestarted.append(request)
        return b""


class FakeKubelet:
    """The device manager: it takes registrations and follows the devices of each resource's newest endpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[Any] = []
        self.lists: dict[str, list[bytes]] = {}
        self.ended: list[str] = []
        self.channels: dict[str, Any] = {}
        self._start()

    def _start(self) -> None:
        for socket in self.folder.iterdir():
            if socket.is_symlink() or not socket.is_dir():
                socket.unlink()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler: Any = grpc.unary_unary_rpc_method_handler(self._register)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REGISTRATION, {"Register": handler}),))
        self._server.add_insecure_port(f"unix://{self.folder / 'kubelet.sock'}")
        self._server.start()

    def restart(self) -> None:
        """End, and begin anew: every socket is deleted."""
        self.close()
        self.requests, self.lists, self.ended, self.channels = [], {}, [], {}
        self._start()

    def close(self) -> None:
        """End."""
        self._server.stop(None).wait()
        for channel in self.channels.values():
            channel.close()

    def _register(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        message = MESSAGES["RegisterRequest"].FromString(request)
        channel = grpc.insecure_channel(f"unix://{self.folder / message.endpoint}")
        self.channels[message.resource_name] = channel
        self.requests.append(message)
        threading.Thread(target=self._follow, args=(message.resource_name, channel), daemon=True).start()
        return b""

    def _follow(self, resource: str, channel: Any) -> None:
        try:
            for message in channel.unary_stream(f"/{DEVICE_PLUGIN}/ListAndWatch")(b"", wait_for_ready=True):
                self.lists.setdefault(resource, []).append(message)
        except (grpc.RpcError, ValueError):  # ValueError: the channel was closed first
            pass
        self.ended.append(resource)

    def call(self, method: str, request: bytes, resource: str = "nvidia.com/gpu") -> bytes:
        """A call of the newest endpoint."""
        answer: bytes = self.channels[resource].unary_unary(f"/{DEVICE_PLUGIN}/{method}")(request, timeout=30)
        return answer

    def preferred(self, offered: tuple[str, ...], size: int, required: tuple[str, ...] = (), resource: str = "nvidia.com/gpu") -> list[str]:
        """What is answered for one container."""
        request = MESSAGES["PreferredAllocationRequest"]()
        request.container_requests.add(available_deviceIDs=offered, must_include_deviceIDs=required, allocation_size=size)
        answer = MESSAGES["PreferredAllocationResponse"].FromString(
            self.call("GetPreferredAllocation", request.SerializeToString(), resource)
        )
        (part,) = answer.container_responses
        return list(part.deviceIDs)


def allocate_request(*ids: str) -> bytes:
    """An Allocate request for one container."""
    message = MESSAGES["AllocateRequest"]()
    message.container_requests.add(devices_ids=ids)
    found: bytes = message.SerializeToString()
    return found
