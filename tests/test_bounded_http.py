"""The server of health and metrics: clients that say nothing, or go away, keep no other waiting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from extender.bounded_http import MOST_CONNECTIONS, BoundedHandler, BoundedHTTPServer
from tests.steering.connections.fakes import wait_for


class Handler(BoundedHandler):
    """Says that all is well."""

    def do_GET(self) -> None:  # noqa: N802
        self.answer(200, b"ok\n")


@pytest.fixture
def server() -> Iterator[BoundedHTTPServer]:
    made = BoundedHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def connected(server: BoundedHTTPServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=30)


def is_well(server: BoundedHTTPServer) -> bool:
    return httpx.get(f"http://127.0.0.1:{server.server_port}/healthz", timeout=30).text == "ok\n"


def test_clients_that_say_nothing_are_ended_the_oldest_first_and_a_probe_is_answered(server: BoundedHTTPServer) -> None:
    threads = threading.active_count()
    with ExitStack() as connections:
        silent = [connections.enter_context(connected(server)) for _ in range(4 * MOST_CONNECTIONS)]
        assert silent[0].recv(1) == b""
        assert is_well(server)
        wait_for("few threads are left", lambda: threading.active_count() <= threads + MOST_CONNECTIONS, 30)


def test_client_that_sends_nothing_is_given_up(server: BoundedHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "timeout", 0.05)
    with connected(server) as silent:
        silent.sendall(b"GET /healthz")
        assert silent.recv(1) == b""


def test_client_that_goes_away_writes_no_traceback(server: BoundedHTTPServer, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        with connected(server) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset at once
    assert is_well(server)
    assert capfd.readouterr().err == ""


def test_start_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(name: str = "") -> str:
        raise AssertionError(f"asked for {name!r}")

    monkeypatch.setattr(socket, "getfqdn", asked)
    BoundedHTTPServer(("127.0.0.1", 0), Handler).server_close()
