"""A steerer that stands by: it keeps the connections of the one that serves, until none does."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

import msgspec

from extender.steering.end_request import POLL_SECONDS, EndRequest
from extender.steering.kubelet_side.kept_connections import Kept
from extender.steering.kubelet_side.kept_steps import Begins, receive_step
from extender.steering.processes.hand_over import KEEP_SOCKET

log = logging.getLogger("fabricwise.steering")

_RESTART_SECONDS = 0.3
"""So long the parent of a serving process that died has to start the next one, before a steerer that stands by does."""
_FIRST_START_SECONDS = 10.0
"""The same where there is no connection that could end."""
_CHANNEL_SECONDS = 1.0
"""So long one step is waited for, before the request to end is looked at."""


def stand_by(shared: Path, ending: EndRequest) -> Kept:
    """Keep what the serving process in `shared` tells, until none serves, or until told to end. Returns the connections."""
    kept, alone_since = Kept(), time.monotonic()
    while not ending.is_made:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.settimeout(_CHANNEL_SECONDS)
            try:
                channel.connect(str(shared / KEEP_SOCKET))
            except OSError:
                patience = _RESTART_SECONDS if kept.endpoints else _FIRST_START_SECONDS
                if time.monotonic() - alone_since > patience:
                    log.warning("no other steerer serves: this one does")
                    return kept
                time.sleep(POLL_SECONDS)
                continue
            _keep(channel, kept, ending)
        alone_since = time.monotonic()
    return kept


def _keep(channel: socket.socket, kept: Kept, ending: EndRequest) -> None:
    """Take the steps that one serving process tells, until it ends."""
    while not ending.is_made:
        try:
            step = receive_step(channel)
        except TimeoutError:
            continue
        except ConnectionError:  # it died before it accepted
            return
        except (OSError, msgspec.DecodeError) as error:
            log.error("what the serving steerer tells cannot be read: %s", error)
            kept.forget()
            ending.pause(_CHANNEL_SECONDS)
            return
        if step is None:
            return
        if isinstance(step[0], Begins):  # one that ends may still be connected to, and tells nothing
            log.info("another steerer serves, this one keeps its connections")
        kept.take(*step)
