"""The server's side of a port-forward over a WebSocket, as the kubelet speaks it: subprotocol v4.channel.k8s.io.

Source: kubernetes 1.36, pkg/kubelet/... streaming server `portforward/websocket.go`: channel 0 is data, channel 1 errors, and the first
message of each is the port number, two bytes, little-endian. Frames: RFC 6455, section 5.2.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from contextlib import suppress

PROTOCOL = "v4.channel.k8s.io"
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 2, 8


def serve_port_forward(connection: socket.socket, key: str, port: int, loopback_port: int) -> None:
    """Answer a WebSocket handshake with `key`, and pass bytes between it and a port on loopback until one side closes."""
    accepted = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accepted}")
    connection.sendall("\r\n".join((*lines, f"Sec-WebSocket-Protocol: {PROTOCOL}", "", "")).encode())
    for channel in (0, 1):
        connection.sendall(_frame(bytes([channel]) + struct.pack("<H", port)))
    with socket.create_connection(("127.0.0.1", loopback_port)) as backend:
        back = threading.Thread(target=_send_back, args=(backend, connection), daemon=True)
        back.start()
        with suppress(OSError, EOFError):
            while (message := _message(connection)) is not None:
                if message[:1] == b"\0":
                    backend.sendall(message[1:])
        with suppress(OSError):
            backend.shutdown(socket.SHUT_RDWR)
        back.join(10)


def _send_back(backend: socket.socket, connection: socket.socket) -> None:
    with suppress(OSError):
        while data := backend.recv(60_000):
            connection.sendall(_frame(b"\0" + data))
        connection.sendall(_frame(b"", _CLOSE))


def _frame(data: bytes, opcode: int = _BINARY) -> bytes:
    length = struct.pack("!B", len(data)) if len(data) < 126 else struct.pack("!BH", 126, len(data))
    return bytes([0x80 | opcode]) + length + data


def _message(connection: socket.socket) -> bytes | None:
    """Return the next message, whose frames a client masks; None once it closes. Raises EOFError."""
    while True:
        first, second = _exactly(connection, 2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", _exactly(connection, 2))
        elif length == 127:
            (length,) = struct.unpack("!Q", _exactly(connection, 8))
        mask = _exactly(connection, 4)
        data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(_exactly(connection, length)))
        if first & 0x0F == _CLOSE:
            return None
        if first & 0x0F == _BINARY:
            return data


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
