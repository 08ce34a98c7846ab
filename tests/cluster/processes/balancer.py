"""One address for several replicas, as a Service: each TCP connection goes to the first replica that accepts it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Balancer:
    """Listens on loopback until `close`."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and close all connections."""
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            for port in self._ports:
                try:
                    backend = socket.create_connection(("127.0.0.1", port), timeout=2)
                except OSError:
                    continue
                backend.settimeout(None)
                self._open += [client, backend]
                for one, other in ((client, backend), (backend, client)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()
                break
            else:
                client.close()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for each in (one, other):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
