"""A small HTTP server for health and metrics: whatever its clients do, its connections are few and each of them ends."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

log = logging.getLogger("fabricwise.http")

MOST_CONNECTIONS = 32
"""Connections at once. One more ends the oldest, so that clients that say nothing keep no probe of the kubelet waiting."""

_SILENT_SECONDS = 10.0
"""A client that sends or takes nothing for so long is given up."""


class BoundedHTTPServer(ThreadingHTTPServer):
    """Serves each connection in a thread of its own, of at most `MOST_CONNECTIONS`."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BoundedHandler]) -> None:
        """Raises OSError where the address cannot be served."""
        self._connections: dict[Any, None] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without the question to the name service that the standard library asks here: a start waits for no name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and end the oldest one where there are too many."""
        with self._lock:
            self._connections[request] = None
            oldest = next(iter(self._connections)) if len(self._connections) > MOST_CONNECTIONS else None
            if oldest is not None:
                del self._connections[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection is over."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a client that went away or said nothing: no news."""
        log.debug("a request of %s ended early", client_address, exc_info=True)


class BoundedHandler(BaseHTTPRequestHandler):
    """Answers one request. Subclasses define `do_GET`."""

    timeout = _SILENT_SECONDS

    def answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes arrive every few seconds."""
