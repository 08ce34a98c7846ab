"""How the serving process gives the kubelet's connections to other steerers: to keep them, or to serve in its place."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from extender.steering.kubelet_side.accepted_sockets import accepted_sockets
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import Kept
from extender.steering.kubelet_side.kept_steps import receive_step
from extender.steering.processes.serving_status import HANDED_OVER

log = logging.getLogger("fabricwise.steering")

HAND_OVER_SOCKET, KEEP_SOCKET = "steerer.sock", "steerer-keep.sock"
"""Names in the folder that the steerers of a node share."""

_HAND_OVER_SECONDS = 5.0


def offer_connections(keeper: Keeper, shared: Path) -> None:
    """Let steerers that stand by keep all connections, and hand them to the first that asks to serve, and end.

    Asked in threads. Raises OSError where the sockets cannot be made.
    """

    def hand_over(channel: socket.socket) -> None:
        keeper.lock.acquire()  # not released once all is handed over: nothing may follow
        keeper.wait_until_all_is_sent()
        try:
            keeper.hand_over(channel)
        except OSError as error:  # it has died, or stalls: it cannot serve before this process ends, because this one holds the lock
            log.warning("another steerer asked for the connections and did not take them, this one goes on: %s", error)
            channel.close()
            keeper.lock.release()
            return
        log.warning("another steerer has taken over")
        sys.stderr.flush()
        os._exit(HANDED_OVER)

    _listen(shared / KEEP_SOCKET, keeper.tell_from_now_on)
    _listen(shared / HAND_OVER_SOCKET, hand_over)


def _listen(path: Path, answer: Callable[[socket.socket], None]) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(4)

    def accept() -> None:
        for channel in accepted_sockets(server):
            answer(channel)

    threading.Thread(target=accept, name=path.stem, daemon=True).start()


def take_over(shared: Path) -> Kept:
    """The connections of a steerer that serves, which ends by that. Empty where there is none."""
    kept = Kept()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(_HAND_OVER_SECONDS)
        try:
            channel.connect(str(shared / HAND_OVER_SOCKET))
            while (told := receive_step(channel)) is not None:
                kept.take(*told)
        except (FileNotFoundError, ConnectionError):
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the steerer that runs does not hand over: %s", error)
    return kept
