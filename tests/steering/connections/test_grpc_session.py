"""Laws of a gRPC session: how bytes are divided, and which process goes on with it, changes nothing for the client."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, TrailersReceived
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from extender.steering.kubelet_side.grpc_session import MOST_REQUEST_BYTES, Call, Cancelled, Session, SessionError

HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/v1beta1.DevicePlugin/Allocate"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class Client:
    """A client that writes what it is told to, and remembers what it gets."""

    def __init__(self) -> None:
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.messages: dict[int, bytes] = {}
        self.statuses: dict[int, str] = {}
        self.ended: set[int] = set()
        self._stream = -1

    def ask(self, method: str, message: bytes) -> int:
        """A whole request; its stream."""
        self._stream += 2
        path = (":path", f"/v1beta1.DevicePlugin/{method}")
        self.connection.send_headers(self._stream, [path if name == ":path" else (name, value) for name, value in HEAD])
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        while framed:
            size = min(len(framed), self.connection.max_outbound_frame_size, self.connection.local_flow_control_window(self._stream))
            assert size
            self.connection.send_data(self._stream, framed[:size], end_stream=size == len(framed))
            framed = framed[size:]
        return self._stream

    def answer_to_next(self, session: Session, message: bytes) -> bytes | None:
        """The answer to a call on the stream after the first one."""
        self._stream = 1
        stream = self.ask("Allocate", message)
        echo(session, self.sends())
        self.receive(session.to_send())
        return self.messages.get(stream)

    def sends(self) -> bytes:
        return self.connection.data_to_send()

    def receive(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            stream = event.stream_id or 0
            self.messages[stream] = self.messages.get(stream, b"") + (event.data or b"")
            self.connection.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, TrailersReceived | ResponseReceived):
            headers = {str(name): str(value) for name, value in event.headers or ()}
            if isinstance(event, ResponseReceived):
                assert (headers[":status"], headers["content-type"]) == ("200", "application/grpc")
            else:
                assert set(headers) == {"grpc-status"}
            if "grpc-status" in headers:
                self.statuses[event.stream_id or 0] = headers["grpc-status"]
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id or 0)


def echo(session: Session, data: bytes) -> None:
    """A server that answers each call with its own message; a list of devices goes on."""
    for event in session.receive(data):
        if isinstance(event, Call) and event.method == "ListAndWatch":
            session.begin(event.stream, event.method)
            session.push(event.stream, b"devices")
        elif isinstance(event, Call):
            session.answer(event.stream, event.message)


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def connected() -> tuple[Client, Session]:
    client, session = Client(), Session()
    client.receive(session.to_send())
    echo(session, client.sends())
    client.receive(session.to_send())
    return client, session


messages = st.lists(st.tuples(st.sampled_from(["Allocate", "ListAndWatch"]), st.binary(max_size=40)), min_size=1, max_size=6)


@given(messages, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_answers_are_the_same_however_the_bytes_are_divided(asked: list[tuple[str, bytes]], sizes: list[int]) -> None:
    client, session = Client(), Session()
    streams = {client.ask(method, message): (method, message) for method, message in asked}
    data, turn = client.sends(), 0
    while data:
        size = sizes[turn % len(sizes)]
        echo(session, data[:size])
        data, turn = data[size:], turn + 1
    client.receive(session.to_send())
    assert client.messages == {
        stream: framed(b"devices" if method == "ListAndWatch" else text) for stream, (method, text) in streams.items()
    }
    assert session.is_quiet


@given(messages, st.sets(st.integers(0, 5)))
def test_client_does_not_notice_that_another_process_goes_on_at_a_quiet_moment(asked: list[tuple[str, bytes]], changes: set[int]) -> None:
    client, session = connected()
    expected = {}
    for number, (method, message) in enumerate(asked):
        expected[client.ask(method, message)] = framed(b"devices" if method == "ListAndWatch" else message)
        echo(session, client.sends())
        client.receive(session.to_send())
        if number in changes:
            assert session.is_quiet
            session = Session(session.saved())
    for stream in session.streaming:
        session.push(stream, b"more")
        expected[stream] += framed(b"more")
    client.receive(session.to_send())
    assert client.messages == expected
    assert set(session.streaming) == {2 * place + 1 for place, (method, _) in enumerate(asked) if method == "ListAndWatch"}


@given(st.binary(min_size=1, max_size=40))
def test_session_is_not_quiet_while_a_request_is_half_read_or_without_its_answer(message: bytes) -> None:
    client, session = connected()
    stream = client.ask("Allocate", message)
    data = client.sends()
    for place in range(len(data)):
        found = session.receive(data[place : place + 1])
        assert not session.is_quiet
    assert found == [Call(stream, "Allocate", message)]
    session.answer(stream, b"")
    assert session.is_quiet


def test_client_that_asks_again_gets_one_answer_where_the_process_died_before_it_told_of_the_first() -> None:
    client, session = connected()
    saved = session.saved()
    stream = client.ask("Allocate", b"x")
    data = client.sends()
    echo(session, data)
    client.receive(session.to_send())
    again = Session(saved)
    echo(again, data)
    assert client.messages == {stream: framed(b"x")}
    assert again.is_quiet


def test_answer_larger_than_the_clients_window_is_sent_as_the_client_takes_it() -> None:
    client, session = connected()
    stream = client.ask("Allocate", b"")
    for event in session.receive(client.sends()):
        assert isinstance(event, Call)
        session.answer(event.stream, b"x" * 300_000)
    assert not session.is_quiet
    while data := session.to_send():
        client.receive(data)
        session.receive(client.sends())
    assert client.messages[stream] == framed(b"x" * 300_000)
    assert session.is_quiet


def test_window_of_a_list_that_goes_on_is_handed_on() -> None:
    client, session = connected()
    stream = client.ask("ListAndWatch", b"")
    echo(session, client.sends())
    for _ in range(20):
        session.push(stream, b"x" * 30_000)
        while data := session.to_send():
            client.receive(data)
            session.receive(client.sends())
        session = Session(session.saved())
    assert client.messages[stream] == framed(b"devices") + 20 * framed(b"x" * 30_000)


def test_request_larger_than_allowed_is_refused_and_the_next_one_answered() -> None:
    client, session = connected()
    client.connection.send_headers(1, HEAD)
    for _ in range(MOST_REQUEST_BYTES // 16_384 + 1):
        client.connection.send_data(1, b"\0" * 16_384)
        echo(session, client.sends())
        client.receive(session.to_send())
    assert client.statuses == {1: "8"}
    assert client.answer_to_next(session, b"x") == framed(b"x")


def test_request_larger_than_allowed_whose_end_comes_with_it_is_refused_and_the_next_one_answered() -> None:
    client, session = connected()
    client.connection.send_headers(1, HEAD)
    for _ in range(MOST_REQUEST_BYTES // 16_384):
        client.connection.send_data(1, b"\0" * 16_384)
        echo(session, client.sends())
        client.receive(session.to_send())
    client.connection.send_data(1, b"\0" * 16_384, end_stream=True)
    echo(session, client.sends())
    client.receive(session.to_send())
    assert client.statuses == {1: "8"}
    assert client.answer_to_next(session, b"x") == framed(b"x")


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0\5hi", b"\1\0\0\0\0", b"\0\0\0\0\0more"], ids=["none", "short", "compressed", "long"])
def test_request_that_is_not_one_plain_message_is_refused_and_the_next_one_answered(body: bytes) -> None:
    client, session = connected()
    client.connection.send_headers(1, HEAD)
    client.connection.send_data(1, body, end_stream=True)
    echo(session, client.sends())
    client.receive(session.to_send())
    assert client.statuses == {1: "12"}
    assert client.answer_to_next(session, b"x") == framed(b"x")


def test_call_that_the_client_gives_up_is_forgotten() -> None:
    client, session = connected()
    stream = client.ask("ListAndWatch", b"")
    echo(session, client.sends())
    client.connection.reset_stream(stream)
    assert session.receive(client.sends()) == [Cancelled(stream)]
    session.push(stream, b"for nothing")
    assert session.streaming == {}


def test_answer_goes_on_when_a_setting_of_the_client_opens_the_window() -> None:
    client, session = connected()
    client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    stream = client.ask("Allocate", b"x" * 40)
    echo(session, client.sends())
    assert not session.is_quiet
    begun = session.to_send()
    client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
    echo(session, client.sends())
    client.receive(begun + session.to_send())
    assert client.messages == {stream: framed(b"x" * 40)}
    assert session.is_quiet


def test_call_that_the_client_gives_up_in_the_middle_of_its_answer_leaves_the_other_calls() -> None:
    client, session = connected()
    client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    listed, given_up = client.ask("ListAndWatch", b""), client.ask("GetPreferredAllocation", b"")
    for event in session.receive(client.sends()):
        assert isinstance(event, Call)
        if event.stream == listed:
            session.begin(listed, event.method)
        else:
            session.answer(given_up, b"x" * 100_000)
    session.to_send()
    client.connection.increment_flow_control_window(1_000)
    client.connection.reset_stream(given_up, ErrorCodes.CANCEL)
    session.receive(client.sends())
    assert session.streaming == {listed: "ListAndWatch"}
    assert session.is_quiet


def test_request_that_makes_no_sense_and_is_given_up_at_once_leaves_the_other_calls() -> None:
    client, session = connected()
    client.connection.send_headers(1, HEAD)
    client.connection.send_data(1, b"no message", end_stream=True)
    client.connection.reset_stream(1, ErrorCodes.CANCEL)
    echo(session, client.sends())
    client.receive(session.to_send())
    assert client.answer_to_next(session, b"x") == framed(b"x")


def test_lists_that_the_client_does_not_take_are_replaced_by_the_newest_one() -> None:
    client, session = connected()
    stream = client.ask("ListAndWatch", b"")
    echo(session, client.sends())
    for number in range(50):
        session.push(stream, bytes([number]) * 60_000)
    while data := session.to_send():
        client.receive(data)
        session.receive(client.sends())
    parts = [b"devices", *(bytes([number]) * 60_000 for number in (0, 1, 49))]
    assert client.messages[stream] == b"".join(map(framed, parts))
    assert session.is_quiet


def test_client_with_more_calls_at_once_than_a_kubelet_makes_is_refused() -> None:
    client, session = Client(), Session()
    for number in range(101):
        client.connection.send_headers(2 * number + 1, HEAD)
    with pytest.raises(SessionError):
        session.receive(client.sends())


def test_header_that_is_no_text_ends_the_session() -> None:
    client, session = connected()
    client.connection.send_headers(1, [*HEAD, ("name", b"\xff\xfe")])
    with pytest.raises(SessionError):
        session.receive(client.sends())


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n" + b" " * 30, b"\0" * 100], ids=["HTTP/1.1", "zeros"])
def test_client_that_speaks_another_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(SessionError):
        Session().receive(data)


def test_client_that_ends_the_connection_ends_the_session() -> None:
    client, session = connected()
    client.connection.close_connection()
    with pytest.raises(SessionError):
        session.receive(client.sends())
