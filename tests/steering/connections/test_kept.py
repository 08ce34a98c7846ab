"""What is kept of the kubelet's connections: by steps, over a channel, and at the moment at which a process dies."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from extender.steering.kubelet_side.accepted_sockets import accepted_sockets
from extender.steering.kubelet_side.grpc_session import SavedSession
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import Kept
from extender.steering.kubelet_side.kept_steps import (
    MOST_CHUNK_BYTES,
    Accepted,
    Begins,
    Closed,
    Ended,
    Listens,
    Quiet,
    Received,
    Step,
    receive_step,
)

LISTENS = Listens("fabricwise-1.sock", "nvidia.com/gpu", "nvidia-gpu.sock", b"\x08\x01")
NAME = LISTENS.endpoint
SAVED = SavedSession({4: 65_535}, 3, 65_000)
Pair = tuple[socket.socket, socket.socket]
REQUEST = b"a request of the kubelet"


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection: the kubelet's end and ours."""
    theirs, ours = socket.socketpair()
    yield theirs, ours
    theirs.close()
    ours.close()


def listener() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def kept_of(*steps: tuple[Step, socket.socket | None]) -> Kept:
    found = Kept()
    for step, given in steps:
        found.take(step, given)
    return found


def content(kept: Kept) -> dict[str, object]:
    """What is kept, but for the sockets."""
    return {name: (one.listens, {n: (c.session, c.received) for n, c in one.connections.items()}) for name, one in kept.endpoints.items()}


CONNECTION: list[tuple[Step, bool]] = [(Accepted(NAME, 1), True)]
CASES: list[tuple[str, list[tuple[Step, bool]], dict[int, object]]] = [
    ("a connection", CONNECTION, {1: (None, [])}),
    (
        "bytes that are not dealt with",
        [*CONNECTION, (Received(NAME, 1, b"a"), False), (Received(NAME, 1, b"b"), False)],
        {1: (None, [b"a", b"b"])},
    ),
    ("all is dealt with", [*CONNECTION, (Received(NAME, 1, b"a"), False), (Quiet(NAME, 1, SAVED), False)], {1: (SAVED, [])}),
    ("it is over", [*CONNECTION, (Closed(NAME, 1), False)], {}),
    ("bytes of an unknown connection", [(Received(NAME, 7, b"a"), False)], {}),
    ("an endpoint that is there already", [*CONNECTION, (LISTENS, True)], {1: (None, [])}),
]


@pytest.mark.parametrize(("what", "steps", "expected"), CASES, ids=[case[0] for case in CASES])
def test_steps(what: str, steps: list[tuple[Step, bool]], expected: dict[int, object]) -> None:
    found = kept_of((LISTENS, listener()), *((step, listener() if given else None) for step, given in steps))
    assert content(found) == {NAME: (LISTENS, expected)}
    found.drop()


@pytest.mark.parametrize(
    "step", [Accepted("unknown.sock", 1), Received(NAME, 1, b""), Ended("unknown.sock")], ids=lambda step: type(step).__name__
)
def test_socket_of_a_step_that_makes_no_sense_is_closed(step: Step) -> None:
    given = listener()
    found = kept_of((step, given))
    assert (found.endpoints, given.fileno()) == ({}, -1)


def test_endpoint_that_ends_closes_all_its_sockets(pair: Pair) -> None:
    listening = listener()
    found = kept_of((LISTENS, listening), (Accepted(NAME, 1), pair[1]), (Ended(NAME), None))
    assert (found.endpoints, listening.fileno(), pair[1].fileno()) == ({}, -1, -1)


def test_another_process_is_told_all_that_is_kept_and_every_further_step(pair: Pair) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper, told = Keeper(), Kept()
    keeper.tell(LISTENS, listener())
    keeper.tell(Accepted(NAME, 1), pair[1])
    keeper.tell_from_now_on(ours)
    keeper.tell(Received(NAME, 1, b"bytes"))
    for _ in range(4):  # that all follows, then the endpoint, the connection, and the bytes
        step = receive_step(theirs)
        assert step is not None
        told.take(*step)
    assert content(told) == content(keeper.kept)
    pair[0].sendall(b"x")
    assert told.endpoints[NAME].connections[1].socket.recv(1) == b"x", "it is the same connection"
    told.drop()
    keeper.kept.drop()
    ours.close()
    theirs.close()


@pytest.mark.parametrize("is_taken", [True, False], ids=["after they were taken", "before they were taken"])
def test_bytes_are_dealt_with_once_when_the_process_dies(pair: Pair, is_taken: bool) -> None:
    theirs, ours = pair
    found = kept_of((LISTENS, listener()), (Accepted(NAME, 1), ours), (Quiet(NAME, 1, SAVED), None), (Received(NAME, 1, REQUEST), None))
    theirs.sendall(REQUEST)
    if is_taken:
        ours.recv(len(REQUEST))
    theirs.sendall(b"the next one")
    _, rest = found.endpoints[NAME].connections[1].resume()
    assert (rest, ours.recv(100)) == (REQUEST, b"the next one")
    found.forget()


def test_connections_that_are_dropped_end_for_the_kubelet_although_another_process_holds_them(
    pair: Pair,
) -> None:
    theirs, ours = pair
    other = ours.dup()
    kept_of((LISTENS, listener()), (Accepted(NAME, 1), ours)).drop()
    assert theirs.recv(1) == b""
    other.close()


def test_connections_that_are_forgotten_go_on_in_the_process_that_serves_them(pair: Pair) -> None:
    theirs, ours = pair
    other = ours.dup()
    kept_of((LISTENS, listener()), (Accepted(NAME, 1), ours)).forget()
    other.sendall(b"x")
    assert theirs.recv(1) == b"x"
    other.close()


@pytest.mark.parametrize(("data", "times"), [(b"x" * MOST_CHUNK_BYTES, 200), (b"x", 100_000)], ids=["much at once", "little at once"])
def test_client_that_sends_without_end_and_no_whole_request_is_ended(pair: Pair, data: bytes, times: int) -> None:
    theirs, ours = pair
    step = Received(NAME, 1, data)
    found = kept_of((LISTENS, listener()), (Accepted(NAME, 1), ours), *((step, None) for _ in range(times)))
    assert found.endpoints[NAME].connections == {}
    assert theirs.recv(1) == b""
    found.drop()


def test_client_that_takes_a_long_list_in_small_parts_is_not_ended(pair: Pair) -> None:
    frame_that_opens_a_window = Received(NAME, 1, b"x" * 13)
    found = kept_of((LISTENS, listener()), (Accepted(NAME, 1), pair[1]), *((frame_that_opens_a_window, None) for _ in range(2_000)))
    assert len(found.endpoints[NAME].connections[1].received) == 2_000
    found.drop()


def test_parent_is_told_every_step_however_many_other_processes_have_come_and_gone() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = Keeper(None, ours)
    for _ in range(20):
        other, others_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper.tell_from_now_on(other)
        others_end.close()
    keeper.tell(Ended(NAME))
    assert receive_step(theirs) == (Ended(NAME), None)
    theirs.close()
    keeper.tell(Ended(NAME))  # closes the channel


def test_parent_is_told_every_step_beside_more_processes_than_are_told() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper, ends = Keeper(None, ours), [theirs]
    for _ in range(6):
        other, others_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper.tell_from_now_on(other)
        ends.append(others_end)
    keeper.tell(Ended(NAME))
    assert receive_step(theirs) == (Ended(NAME), None)
    assert receive_step(ends[-1]) == (Begins(), None)
    for end in ends:
        end.close()
    keeper.tell(Ended(NAME))


def test_connections_are_not_kept_elsewhere_once_the_other_process_has_ended() -> None:
    keeper = Keeper()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper.tell_from_now_on(ours)
    assert keeper.is_kept_elsewhere
    theirs.close()
    assert not keeper.is_kept_elsewhere


def test_hand_over_waits_until_no_client_has_half_a_frame(pair: Pair) -> None:
    keeper = Keeper()
    keeper.has_half_sent((NAME, 1), True)
    seen = []

    def finish() -> None:
        with keeper.lock:
            seen.append("sent")
            keeper.has_half_sent((NAME, 1), False)

    with keeper.lock:
        thread = threading.Thread(target=finish)
        thread.start()
        keeper.wait_until_all_is_sent()
        seen.append("handed over")
    thread.join()
    assert seen == ["sent", "handed over"]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ECONNABORTED], ids=["no descriptor is free", "the client is gone already"])
def test_connections_are_accepted_after_an_error_that_passes(error: int, tmp_path: Path) -> None:
    class Failing(socket.socket):
        """A listening socket whose first accept fails."""

        errors: ClassVar = [OSError(error, "passes")]

        def accept(self) -> tuple[socket.socket, object]:
            if self.errors:
                raise self.errors.pop()
            return super().accept()

    with Failing(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        client.connect(str(tmp_path / "s"))
        accepted = accepted_sockets(listening)
        next(accepted).close()
        listening.shutdown(socket.SHUT_RDWR)
        assert list(accepted) == []
