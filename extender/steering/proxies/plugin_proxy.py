"""One resource: a device plugin towards the kubelet, in front of NVIDIA's. All but the preferred allocation passes through as bytes."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from extender.steering.answers.chooser import Chooser
from extender.steering.choice.device_choice import Answer, Reason, Request, completed
from extender.steering.device_plugin_api import MESSAGES, Registration, preferred_response, steered_options
from extender.steering.kubelet_side.call_handlers import Handlers, RefusedError, Stream
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import KeptEndpoint
from extender.steering.kubelet_side.kept_steps import Listens
from extender.steering.kubelet_side.plugin_server import PluginServer
from extender.steering.plugin_side.plugin_client import PluginClient
from extender.steering.proxies.counts import Counts

log = logging.getLogger("fabricwise.steering")

_PREFERRED_SECONDS = 20.0
"""How long the plugin may take over a preferred allocation: for 16 GPUs its search takes up to 18 s. Then any set is answered."""

_FORWARD_SECONDS = 60.0


class PluginProxy:
    """Serves one resource on a socket of its own."""

    def __init__(
        self,
        registration: Registration,
        folder: Path,
        endpoint: str,
        chooser: Chooser,
        counts: Counts,
        keeper: Keeper,
        kept: KeptEndpoint | None = None,
    ) -> None:
        """`folder`: the kubelet's folder of device plugins; `endpoint`: the name of our socket in it; `kept`: that socket, where a process
        before this one served it. Raises OSError where it cannot be served."""
        self.registration, self.endpoint = registration, endpoint
        self.plugin_socket = folder / registration.endpoint
        self._chooser, self._counts = chooser, counts
        self._lock = threading.Lock()
        self._streams = 0
        self.healthy = 0
        """Healthy devices in the plugin's last list."""
        self._answered: frozenset[str] | None = None
        """The ids of the last answer, until the allocation that follows it."""
        self._plugin = PluginClient(self.plugin_socket)
        handlers = Handlers(
            {
                "GetDevicePluginOptions": lambda request: steered_options(self._forward("GetDevicePluginOptions", request)),
                "GetPreferredAllocation": self._preferred,
                "Allocate": self._allocate,
                "PreStartContainer": partial(self._forward, "PreStartContainer"),
            },
            {"ListAndWatch": self._list_and_watch},
        )
        listens = Listens(endpoint, registration.resource, registration.endpoint, registration.options, registration.socket_made)
        self._server = PluginServer(folder / endpoint, listens, handlers, keeper, kept)

    @property
    def is_listened_to(self) -> bool:
        """Whether the kubelet follows the devices."""
        return self._streams > 0

    def close(self) -> None:
        """Stop serving: the kubelet sees the stream end."""
        self._server.close()
        self._plugin.close()

    def _allocate(self, request: bytes) -> bytes:
        answer = self._forward("Allocate", request)
        try:
            self._compare(MESSAGES["AllocateRequest"].FromString(request))
        except Exception:  # only a count: the allocation stands
            log.exception("an allocation could not be read")
        return answer

    def _compare(self, allocated: Any) -> None:
        with self._lock:
            answered, self._answered = self._answered, None
        ids = {device for one in allocated.container_requests for device in one.devices_ids}
        if answered is not None and ids != answered:
            log.warning("%s: the kubelet allocated %s, answered was %s", self.registration.resource, sorted(ids), sorted(answered))
            self._counts.differing(self.registration.resource)

    def _list_and_watch(self, stream: Stream) -> None:
        """Each list of the plugin as it comes. It ends when either side ends it."""
        resource = self.registration.resource
        try:
            call = self._plugin.list_and_watch()
        except ValueError:  # the proxy was closed meanwhile
            return
        stream.on_end(call.cancel)
        with self._lock:
            self._streams += 1
        try:
            for message in call:
                self.healthy = _healthy(message)
                self._counts.listed(resource, self.healthy)
                stream.push(message)
        except grpc.RpcError as error:
            if stream.is_open:
                log.warning("%s: the plugin's list of devices ended: %s", resource, error)
                raise refused(error) from error
        finally:
            with self._lock:
                self._streams -= 1
                alone = self._streams == 0
            if alone:
                self._counts.listed(resource, None)

    def _forward(self, method: str, request: bytes, seconds: float = _FORWARD_SECONDS) -> bytes:
        """The plugin's answer; where it is an error, the same error."""
        try:
            return self._plugin.ask(method, request, seconds)
        except grpc.RpcError as error:
            raise refused(error) from error

    def _preferred(self, request: bytes) -> bytes:
        """Never an error: the kubelet fails the pod on one."""
        started = time.monotonic()
        resource = self.registration.resource
        answered: tuple[str, ...] | None = None
        try:
            requests = MESSAGES["PreferredAllocationRequest"].FromString(request).container_requests
            if len(requests) != 1:
                reason, response = Reason.SEVERAL_CONTAINERS, self._plugins_answer(request, None)
            else:
                asked = Request(
                    tuple(requests[0].available_deviceIDs), tuple(requests[0].must_include_deviceIDs), requests[0].allocation_size
                )
                found = self._chooser.choose(resource, asked)
                if isinstance(found, Answer):
                    self._remember(found.ids)
                    self._counts.steered(resource, found.basis, time.monotonic() - started)
                    return preferred_response(found.ids)
                reason, response = found, self._plugins_answer(request, asked)
        except Exception:
            log.exception("%s: a preferred allocation failed, an empty one is answered", resource)
            reason, response = Reason.ERROR, b""  # the kubelet then chooses by itself
        self._remember(answered)
        self._counts.forwarded(resource, reason, time.monotonic() - started)
        return response

    def _remember(self, answered: tuple[str, ...] | None) -> None:
        with self._lock:
            self._answered = frozenset(answered) if answered is not None else None

    def _plugins_answer(self, request: bytes, asked: Request | None) -> bytes:
        """NVIDIA's answer as it is where it names as many offered devices as requested; else completed to such a one."""
        try:
            response = self._plugin.ask("GetPreferredAllocation", request, _PREFERRED_SECONDS)
        except grpc.RpcError as error:
            log.warning("%s: the plugin does not answer which devices it prefers: %s", self.registration.resource, error)
            response = b""
        if asked is None:
            return response
        parts = MESSAGES["PreferredAllocationResponse"].FromString(response).container_responses
        ids = tuple(parts[0].deviceIDs) if len(parts) == 1 else ()
        whole = completed(ids, asked)
        return response if set(whole) == set(ids) and len(ids) == len(whole) else preferred_response(whole)


def refused(error: grpc.RpcError) -> RefusedError:
    """An error of the plugin as one of ours."""
    code: int = error.code().value[0]
    return RefusedError(code, error.details() or "the device plugin does not answer")


def _healthy(message: bytes) -> int:
    """Devices that a list calls healthy; 0 where it cannot be read."""
    try:
        return sum(device.health == "Healthy" for device in MESSAGES["ListAndWatchResponse"].FromString(message).devices)
    except Exception:
        return 0
