"""A server of the device plugin API on one unix socket, whose connections outlive the process that serves them; see `keeper`."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extender.steering.kubelet_side.accepted_sockets import accepted_sockets
from extender.steering.kubelet_side.call_handlers import Handlers
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import KeptConnection, KeptEndpoint, shut
from extender.steering.kubelet_side.kept_steps import Accepted, Ended, Listens
from extender.steering.kubelet_side.kubelet_connection import KubeletConnection

_THREADS = 8


class PluginServer:
    """Serves handlers on a socket."""

    def __init__(self, path: Path, listens: Listens, handlers: Handlers, keeper: Keeper, kept: KeptEndpoint | None = None) -> None:
        """`kept`: go on with a socket and with connections of a process before this one. Raises OSError where `path` cannot be bound."""
        self._path, self._endpoint, self.handlers, self.keeper = path, listens.endpoint, handlers, keeper
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=listens.endpoint)
        self._connections: dict[int, KubeletConnection] = {}
        self._lock = threading.Lock()
        self._is_over = False
        if kept is None:
            self._socket = socket.socket(socket.AF_UNIX)
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            self._socket.listen()
            keeper.tell(listens, self._socket)
        else:
            self._socket = kept.socket
        before = dict(kept.connections) if kept is not None else {}
        self._numbers = itertools.count(max(before, default=0) + 1)
        for number, one in before.items():
            self._add(KubeletConnection(self, number, one))
        threading.Thread(target=self._accept, name=f"accept-{listens.endpoint}", daemon=True).start()

    def _accept(self) -> None:
        for accepted in accepted_sockets(self._socket):
            number = next(self._numbers)
            self.keeper.tell(Accepted(self._endpoint, number), accepted)
            with contextlib.suppress(OSError):  # it is closed: more connections than are kept, or the endpoint has ended
                self._add(KubeletConnection(self, number, KeptConnection(accepted)))

    def _add(self, connection: KubeletConnection) -> None:
        with self._lock:
            is_over = self._is_over
            if not is_over:
                self._connections[connection.number] = connection
        if is_over:
            connection.close()
            return
        threading.Thread(target=connection.serve, name=f"{self._endpoint}-{connection.number}", daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Name of the socket."""
        return self._endpoint

    def forget(self, number: int) -> None:
        """A connection that is over."""
        with self._lock:
            self._connections.pop(number, None)

    def close(self) -> None:
        """End: the client sees its streams end."""
        shut(self._socket)
        with self._lock:
            self._is_over = True
            connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        self.keeper.tell(Ended(self._endpoint))
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.pool.shutdown(wait=False)
