"""The connections that are made to a listening socket, one after another."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Iterator

log = logging.getLogger("fabricwise.steering")

_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO, errno.EPERM}
"""Errors of accept(2) that say nothing about the listening socket: of the connection, or for want of descriptors or memory."""

_PAUSE_SECONDS = 0.1


def accepted_sockets(listening: socket.socket) -> Iterator[socket.socket]:
    """Each connection as it is made, until the listening socket is closed. An error that passes is waited out, and ends nothing."""
    while True:
        try:
            accepted, _ = listening.accept()
        except OSError as error:
            if error.errno not in _PASSING:
                return
            log.warning("a connection cannot be accepted now, next try in %.1f s: %s", _PAUSE_SECONDS, error.strerror)
            time.sleep(_PAUSE_SECONDS)
        else:
            yield accepted
