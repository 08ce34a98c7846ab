"""The registration of one of our endpoints with the kubelet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from extender.steering.device_plugin_api import KUBELET_SOCKET, REGISTRATION, Registration, register_request, steered_options

_REGISTER_SECONDS = 15.0
"""The kubelet connects to the endpoint before it answers; it waits ten seconds for that."""


def register_with_kubelet(folder: Path, registration: Registration, endpoint: str) -> None:
    """Register our `endpoint` for the plugin's resource. Raises grpc.RpcError."""
    request = register_request(registration.resource, endpoint, steered_options(registration.options))
    with grpc.insecure_channel(f"unix://{folder / KUBELET_SOCKET}", options=[("grpc.default_authority", "localhost")]) as channel:
        call: Any = channel.unary_unary(f"/{REGISTRATION}/Register")
        call(request, timeout=_REGISTER_SECONDS)
