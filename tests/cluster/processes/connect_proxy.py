"""The way from an API server to pods and kubelets, on loopback: an HTTP CONNECT proxy on a Unix socket, and a kubelet that forwards ports.

kube-apiserver connects to no loopback address for a client (IsProxyableIP), but with an egress selector it asks a proxy to connect. So pods
and nodes have addresses of the documentation range here, and the proxy knows which port on loopback each stands for.
Source: kubernetes 1.36, `EgressSelectorConfiguration` (apiserver.k8s.io/v1beta1), connection type HTTPConnect, transport UDS.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml

from tests.kube.port_forward import serve_port_forward


@contextmanager
def connect_proxy(path: Path, targets: dict[str, int]) -> Iterator[None]:
    """Answer CONNECT requests on a Unix socket until the block ends. `targets`: HOST:PORT -> port on loopback; others are refused."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    thread = threading.Thread(target=_accept, args=(listener, targets), daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _accept(listener: socket.socket, targets: dict[str, int]) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_connect, args=(client, targets), daemon=True).start()


def _connect(client: socket.socket, targets: dict[str, int]) -> None:
    with client, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(4096)
            if not part:
                return
            head += part
        target = head.split(b" ", 2)[1].decode()
        if target not in targets:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", targets[target])) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join(30)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the source ends, then say so to the sink."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def egress_configuration(folder: Path, proxy: Path) -> Path:
    """Write the configuration with which kube-apiserver reaches the cluster through the proxy. Returns its path."""
    path = folder / "egress.yaml"
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(proxy)}}}
    configuration = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
    path.write_text(yaml.safe_dump(configuration))
    return path


@contextmanager
def forwarding_kubelet(folder: Path, pod_port: int, certificate: tuple[Path, Path]) -> Iterator[int]:
    """Serve the port-forwards of a kubelet over TLS, all to one port on loopback. Yields its own port. `certificate`: (file, key)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            if not url.path.startswith("/portForward/") or "Sec-WebSocket-Key" not in self.headers:
                self.send_error(404)
                return
            port = int(parse_qs(url.query).get("port", ["0"])[0])
            serve_port_forward(self.connection, self.headers["Sec-WebSocket-Key"], port, pod_port)
            self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
