"""The calls of the device plugin API that NVIDIA's plugin answers; messages stay bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from extender.steering.device_plugin_api import DEVICE_PLUGIN

_CHANNEL = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 16 << 20)]


class PluginClient:
    """A channel to one plugin, which need not listen yet. Safe in several threads."""

    def __init__(self, socket: Path) -> None:
        self._channel: Any = grpc.insecure_channel(f"unix://{socket}", options=_CHANNEL)

    def ask(self, method: str, request: bytes, seconds: float) -> bytes:
        """The answer to one call, waited for at most `seconds`. Raises grpc.RpcError."""
        answer: bytes = self._channel.unary_unary(f"/{DEVICE_PLUGIN}/{method}")(request, timeout=seconds)
        return answer

    def list_and_watch(self) -> Any:
        """The call whose messages are the plugin's lists of devices. Raises ValueError once the client is closed."""
        return self._channel.unary_stream(f"/{DEVICE_PLUGIN}/ListAndWatch")(b"")

    def close(self) -> None:
        """End all calls."""
        self._channel.close()
