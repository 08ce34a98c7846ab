"""Expositions as exporters write them, and a real HTTP server that can serve them with faults."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Values = dict[str, float | str]

BASE: Values = {
    "DCGM_FI_DEV_GPU_TEMP": 40,
    "DCGM_FI_DEV_GPU_UTIL": 0,
    "DCGM_FI_DEV_MEM_COPY_UTIL": 0,
    "DCGM_FI_DEV_POWER_USAGE": 70,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_FB_USED": 0,
    "DCGM_FI_DEV_FB_FREE": 80000,
    "DCGM_FI_DEV_FB_RESERVED": 600,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
}
"""Values of an idle 80 GB GPU, in the exporter's units."""


def dcgm_text(gpus: dict[str, Values], hostname: str = "exporter-x7k2p") -> str:
    """`gpus`: UUID -> values that differ from those of an idle GPU."""
    lines = []
    for metric in dict.fromkeys([*BASE, *(name for values in gpus.values() for name in values)]):
        lines.append(f"# TYPE {metric} gauge")
        for index, (uuid, values) in enumerate(gpus.items()):
            value = values.get(metric, BASE.get(metric))
            if value is not None:
                labels = f'gpu="{index}",UUID="{uuid}",device="nvidia{index}",modelName="NVIDIA H100 80GB HBM3",Hostname="{hostname}"'
                lines.append(f"{metric}{{{labels}}} {value}")
    return "\n".join(lines) + "\n"


def used(mib: int) -> Values:
    """Values of a GPU with this much framebuffer in use."""
    return {"DCGM_FI_DEV_FB_USED": mib, "DCGM_FI_DEV_FB_FREE": 80000 - mib}


class Exporter:
    """One target. `text` returns the exposition; `mode` is how it is served: ok, gzip, slow, hang, cut, midline, 500, empty, html."""

    def __init__(self, text: Callable[[], str], host: str = "127.0.0.1", port: int = 0) -> None:
        self.text, self.mode, self.asked = text, "ok", 0
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                exporter.asked += 1
                try:
                    exporter._answer(self)
                except ConnectionError:
                    self.close_connection = True  # the client has closed the connection

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://{host}:{self.port}/metrics"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = self.text().encode()
        match self.mode:
            case "500":
                return self._send(request, 500, b"boom\n")
            case "html":
                return self._send(request, 200, b"<html><body>hello</body></html>")
            case "empty":
                return self._send(request, 200, b"")
            case "gzip":
                return self._send(request, 200, gzip.compress(body), {"Content-Encoding": "gzip"})
            case "midline":
                return self._send(request, 200, body[: int(len(body) * 0.6)])
            case "hang":
                time.sleep(30)
                return None
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.mode == "cut":
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
        elif self.mode == "slow":
            for start in range(0, len(body), 200):
                request.wfile.write(body[start : start + 200])
                request.wfile.flush()
                time.sleep(0.2)
        else:
            request.wfile.write(body)
        return None

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def exporter(text: Callable[[], str], host: str = "127.0.0.1", port: int = 0) -> Iterator[Exporter]:
    """Run an exporter until the block ends."""
    running = Exporter(text, host, port)
    try:
        yield running
    finally:
        running.close()
