"""The processes that are measured: the floor, Fabricwise, and what feeds it. Each ends with its block, and with the benchmark's process."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bench.clusters import Cluster
from tests.bench.processes.leash import leashed
from tests.cluster.processes.control_plane import free_port
from tests.kube.api_server import kubeconfig

START_SECONDS = 240.0
"""Longest start of a server, until it answers 200 to /readyz."""
SETTINGS: dict[str, Any] = {"server": {"log_level": "warning"}, "telemetry": {"source": "off"}, "lease": {"enabled": False}}
"""Settings of Fabricwise where the defaults would measure something else: telemetry has a part of its own, and the API server of the
benchmark has no Leases."""


class BenchmarkError(RuntimeError):
    """A server did not do what is measured."""


class Connection:
    """One keep-alive connection to a server."""

    def __init__(self, url: str) -> None:
        """`url`: http://HOST:PORT, without a path."""
        host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
        self.connection = http.client.HTTPConnection(host, int(port or 80), timeout=120)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[bytes, float]:
        """Return (body of the answer, seconds). Raises BenchmarkError where the answer is not a success."""
        started = time.perf_counter()
        self.connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self.connection.getresponse()
        content = response.read()
        took = time.perf_counter() - started
        if response.status not in (200, 201):
            raise BenchmarkError(f"{path} answered {response.status}: {content[:200]!r}")
        return content, took

    def close(self) -> None:
        """Close it."""
        self.connection.close()


@dataclass(frozen=True)
class Server:
    """A server process with a connection to it."""

    pid: int
    url: str
    connection: Connection

    def get(self, path: str) -> Any:
        """Return the JSON that a path answers."""
        return json.loads(self.connection.ask("GET", path)[0])

    def post(self, path: str, body: bytes) -> None:
        """POST, and ignore the answer."""
        self.connection.ask("POST", path, body)

    def cpu_seconds(self) -> float:
        """Return the processor time of the process so far, in user and system mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Return the resident memory of the process in MiB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@contextmanager
def server(*module: str, ready: str = "/healthz", log: Path | None = None) -> Iterator[Server]:
    """A server that answers: `python -m MODULE ARGUMENTS`, in which PORT is replaced by its port. It ends with the block."""
    port = free_port()
    command = [sys.executable, "-m", *(str(port) if part == "PORT" else part for part in module)]
    with (log or Path(os.devnull)).open("ab") as output:
        child = subprocess.Popen(leashed(command), stdin=subprocess.DEVNULL, stdout=output, process_group=0)
    try:
        url = f"http://127.0.0.1:{port}"
        connection = Connection(url)
        _wait_ready(connection, ready, child, command)
        yield Server(child.pid, url, connection)
        connection.close()
    finally:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_ready(connection: Connection, path: str, child: subprocess.Popen[bytes], command: list[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection.connection.request("GET", path)
            response = connection.connection.getresponse()
            response.read()
            if response.status < 400:
                return
        except (OSError, http.client.HTTPException):
            connection.close()
        if child.poll() is not None or time.monotonic() > deadline:
            raise BenchmarkError(f"the server did not start: {' '.join(command)}")
        time.sleep(0.02)


@contextmanager
def floor() -> Iterator[Server]:
    """The server that decodes and echoes; it is also the instant extender of the real kube-scheduler."""
    with server("tests.bench.processes.floor", "PORT") as process:
        yield process


@contextmanager
def api(cluster: Cluster) -> Iterator[Server]:
    """An API server process that lists this cluster."""
    with server("tests.bench.processes.api_process", "PORT", json.dumps(asdict(cluster)), ready="/bench/status") as process:
        yield process


@contextmanager
def fabricwise(api_server: Server, folder: Path, settings: dict[str, Any] | None = None) -> Iterator[Server]:
    """`fabricwise serve --cluster kube` as users start it, ready."""
    config, access = folder / "extender.yaml", folder / f"kubeconfig-{api_server.pid}"
    config.write_text(yaml.safe_dump({**SETTINGS, **(settings or {})}))
    access.write_text(yaml.safe_dump(kubeconfig(api_server.url)))
    arguments = ("--cluster", "kube", "--kubeconfig", str(access), "--config", str(config), "--port", "PORT")
    with server("extender", "serve", *arguments, ready="/readyz") as process:
        yield process


def wait_until_watched(api_server: Server, kinds: int = 3) -> None:
    """Return once the watches of an extender are open: events that are sent before would be missed. Raises BenchmarkError."""
    deadline = time.monotonic() + START_SECONDS
    while api_server.get("/bench/status")["watched"] < kinds:
        if time.monotonic() > deadline:
            raise BenchmarkError("the extender has opened no watches")
        time.sleep(0.02)
