"""Clients of the steerer that are no kubelet, or one that stalls: the others are served all the same."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from h2.settings import SettingCodes

from extender.steering.kubelet_side import kubelet_connection
from extender.steering.kubelet_side.call_handlers import Handlers, Stream
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_steps import Listens
from extender.steering.kubelet_side.plugin_server import PluginServer
from tests.steering.connections.fakes import wait_for
from tests.steering.connections.test_grpc_session import Client, framed

LISTENS = Listens("fabricwise-1.sock", "nvidia.com/gpu", "nvidia-gpu.sock", b"")
LONG_LIST = b"x" * 3_000_000


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How a client begins: with settings that say nothing."""


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    """A frame of HTTP/2, on stream 0 where its kind is about the connection, else on stream 1."""
    stream = 0 if kind in (0x4, 0x7) else 1
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Served:
    """A server whose lists are long, and whose other answers are what was asked."""

    def __init__(self, folder: Path) -> None:
        self.path, self.calls = folder / LISTENS.endpoint, 0
        self.ended = threading.Semaphore(0)
        self.go_on = threading.Event()
        handlers = Handlers({"Allocate": lambda message: message, "Wait": self._wait}, {"ListAndWatch": self._list})
        self.server = PluginServer(self.path, LISTENS, handlers, Keeper())

    def _list(self, stream: Stream) -> None:
        ended = threading.Event()
        stream.on_end(ended.set)
        stream.push(LONG_LIST)
        ended.wait()
        self.ended.release()

    def _wait(self, message: bytes) -> bytes:
        self.calls += 1
        self.go_on.wait()
        return message

    def connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(self.path))
        return made

    def answers(self) -> bool:
        """Whether a client that connects now is served."""
        client = Client()
        with self.connected() as connection:
            stream = client.ask("Allocate", b"x")
            return is_answered(connection, client, stream) and client.messages[stream] == framed(b"x")


def is_answered(connection: socket.socket, client: Client, stream: int) -> bool:
    """Whether a call is answered, with a message or an error, before the connection ends."""
    connection.settimeout(20)
    connection.sendall(client.sends())
    while stream not in client.ended and (data := connection.recv(65_536)):
        client.receive(data)
    return stream in client.ended


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.go_on.set()
    made.server.close()


def bytes_at(connection: socket.socket) -> int:
    """Bytes that wait to be received."""
    count = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, count)
    return count[0]


def used() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def test_client_is_served_after_more_connections_at_once_than_are_kept(served: Served) -> None:
    with ExitStack() as connections:
        for _ in range(100):
            connections.enter_context(served.connected())
        # those that are not kept are closed, after all before them were accepted
        last = connections.enter_context(served.connected())
        last.settimeout(20)
        assert last.recv(1) == b""
    wait_for("the connections are forgotten", lambda: not served.server.keeper.kept.endpoints[LISTENS.endpoint].connections)
    assert served.answers()


def test_thousand_connections_leave_no_descriptor_and_no_thread(served: Served) -> None:
    assert served.answers()
    wait_for("the connection is forgotten", lambda: not served.server.keeper.kept.endpoints[LISTENS.endpoint].connections)
    before = used()
    for number in range(1_000):
        with served.connected() as connection:
            if number % 2:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0")  # and half a frame
        if number % 50 == 0:
            wait_for("it is forgotten", lambda: not served.server.keeper.kept.endpoints[LISTENS.endpoint].connections)
    wait_for("all is as before", lambda: all(now <= then for now, then in zip(used(), before, strict=True)), 30)


def test_client_that_takes_nothing_keeps_no_other_waiting(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet_connection, "_SEND_SECONDS", 1_000.0)
    client = Client()
    client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
    client.connection.increment_flow_control_window(1 << 30)
    with served.connected() as connection:
        client.ask("ListAndWatch", b"")
        connection.sendall(client.sends())
        wait_for("as much as the system holds is sent", lambda: bytes_at(connection) > 100_000)
        assert served.answers()


def test_calls_that_a_client_gives_up_are_not_begun(served: Served) -> None:
    client = Client()
    with served.connected() as connection:
        for _ in range(50):
            client.connection.reset_stream(client.ask("Wait", b""))
        assert is_answered(connection, client, client.ask("unknown", b"")), "all before it are read"
        served.go_on.set()
        served.server.pool.shutdown()
    assert served.calls <= 8, "not more than there are threads"


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        PREFACE + frame(0x1, 0, b"\x83"),
        PREFACE + frame(0x1, 0, b"\x83") + frame(0x9, 0, b"a" * 16_384) * 40,
        PREFACE + frame(0x1, 0x4, b"\x00\x7f\xff\x7f" + b"a" * 16_000) * 2,
        PREFACE + b"\xff\xff\xff\0\0\0\0\0\0",
        PREFACE + frame(0x4, 0, b"\0\x04\xff\xff\xff\xff"),
        PREFACE + frame(0x4, 0x1, b"\0" * 6),
        PREFACE + frame(0x3, 0, b"\0\0\0\x08"),
        PREFACE + frame(0x7, 0, b"\0" * 8),
    ],
    ids=[
        "no HTTP/2",
        "half a header",
        "a header without end",
        "a header that is too large",
        "a frame of 16 MiB",
        "a setting that is out of range",
        "an acknowledgement with settings",
        "the end of a stream that never was",
        "GOAWAY",
    ],
)
def test_client_that_breaks_the_protocol_ends_no_connection_but_its_own(
    served: Served, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    with served.connected() as other, served.connected() as connection:
        assert is_answered(other, client, client.ask("Allocate", b"x"))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        while connection.recv(65_536):
            pass
        assert is_answered(other, client, client.ask("Allocate", b"x"))
    assert [record for record in caplog.records if record.exc_info] == []
