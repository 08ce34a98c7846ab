"""The options of the sockets to the API server."""

from __future__ import annotations

import socket

_IDLE_PROBES = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
KEEP_ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _IDLE_PROBES if hasattr(socket, name)),
]
"""Socket options. With TCP keepalive, a watch whose server has vanished fails after half a minute instead of at its read timeout."""
