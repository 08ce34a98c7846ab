"""Where plugins register.

The plugin is pointed at a symbolic link in the kubelet's folder of device plugins, the only host folder that it mounts. The socket
itself lies in a folder below, which the kubelet does not empty when it starts. So a steerer that starts anew can bind its socket without
a restart of the plugin, and creating the link anew makes the plugin restart: NVIDIA's plugin does so when that name is created.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from extender.steering.device_plugin_api import KUBELET_SOCKET, MESSAGES, REGISTRATION, VERSION, Registration

log = logging.getLogger("fabricwise.steering")

LINK = "fabricwise.sock"
"""What `KUBELET_SOCKET` of NVIDIA's plugin names, in the kubelet's folder of device plugins."""
OWN_FOLDER = "fabricwise"
OWN_ENDPOINTS = "fabricwise-"
"""What the names of our sockets towards the kubelet begin with: a plugin with such a name would be one of our own proxies."""
_REGISTRY = "registration.sock"

_MOST_RESOURCE_CHARACTERS, _MOST_OPTIONS_BYTES = 256, 1024
"""What the agent publishes of a resource's name; and of options, which are handed on with each connection: a plugin's have four bytes."""

_ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESOURCE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class RegistrationServer:
    """Takes registrations of plugins and hands each to `taken`, which must not block, and says whether it takes this one."""

    def __init__(self, folder: Path, taken: Callable[[Registration], bool]) -> None:
        """Raises OSError where plugins cannot register in `folder`."""
        self._link, self._taken = folder / LINK, taken
        own = folder / OWN_FOLDER
        own.mkdir(mode=0o750, exist_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="registration"))
        handlers: dict[str, Any] = {"Register": grpc.unary_unary_rpc_method_handler(self._register)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REGISTRATION, handlers),))
        try:
            self._server.add_insecure_port(f"unix://{own / _REGISTRY}")
        except RuntimeError as error:
            raise OSError(f"no plugin can register: {error}: the folder must be writable and its path short") from error
        self._server.start()

    @property
    def is_linked(self) -> bool:
        """Whether plugins find the socket."""
        return self._link.is_symlink()

    def link(self) -> None:
        """Create the link anew, which restarts the plugins that are pointed at it."""
        with contextlib.suppress(FileNotFoundError):
            self._link.unlink()
        self._link.symlink_to(Path(OWN_FOLDER) / _REGISTRY)

    def close(self, unlink: bool) -> None:
        """Stop taking registrations."""
        self._server.stop(None).wait(5)
        if unlink:
            with contextlib.suppress(FileNotFoundError):
                self._link.unlink()

    def _register(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            message = MESSAGES["RegisterRequest"].FromString(request)
        except Exception as error:  # protobuf's DecodeError, which it defines per implementation
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a registration: {error}")
        options = message.options.SerializeToString()
        problem = _problem(message.version, message.endpoint, message.resource_name, options)
        if problem is not None:
            log.warning("refused a registration: %s", problem)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        if not self._taken(Registration(message.resource_name, message.endpoint, options)):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many registrations at once: register again later")
        return b""


def _problem(version: str, endpoint: str, resource: str, options: bytes) -> str | None:
    """What is wrong with a registration; None where nothing is."""
    if version != VERSION:
        return f"version {version[:40]!r} of the device plugin API: this steerer speaks {VERSION}"
    if not _ENDPOINT.fullmatch(endpoint):
        return f"endpoint {endpoint[:120]!r} is not the name of a socket in the kubelet's folder of device plugins"
    if endpoint in (LINK, KUBELET_SOCKET) or endpoint.startswith(OWN_ENDPOINTS):
        return f"endpoint {endpoint} is not a plugin's"
    if not _RESOURCE.fullmatch(resource) or len(resource) > _MOST_RESOURCE_CHARACTERS:
        return (
            f"resource {resource[:120]!r} is not the name of an extended resource such as nvidia.com/gpu, "
            f"of at most {_MOST_RESOURCE_CHARACTERS} characters"
        )
    if len(options) > _MOST_OPTIONS_BYTES:
        return f"options of {len(options)} bytes, of at most {_MOST_OPTIONS_BYTES}"
    return None
