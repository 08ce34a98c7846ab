"""What the serving process knows of its own connections to the kubelet, and tells the processes beside it."""

from __future__ import annotations

import logging
import select
import socket
import threading

from extender.steering.kubelet_side.kept_connections import Kept, shut
from extender.steering.kubelet_side.kept_steps import Ended, Step, send_step

log = logging.getLogger("fabricwise.steering")

_TELL_SECONDS = 1.0
"""A process that takes no step for so long is told no more."""

_MOST_CHANNELS = 4


class Keeper:
    """What the serving process knows itself, and tells the process beside it. Safe in several threads."""

    def __init__(self, kept: Kept | None = None, channel: socket.socket | None = None) -> None:
        """`kept`: what was handed on by the process before. `channel`: to the parent process, None where there is none."""
        self.kept = kept or Kept()
        self._parent = channel
        self._half_sent: set[tuple[str, int]] = set()
        self._channels = [channel] if channel is not None else []
        for one in self._channels:
            one.settimeout(_TELL_SECONDS)
        self.lock = threading.RLock()
        """Held while a step is made, so that another thread that takes it sees only whole steps."""
        self._all_sent = threading.Condition(self.lock)

    def tell(self, step: Step, given: socket.socket | None = None) -> None:
        """Make a step. A process that does not listen is told no more: what it knew would be wrong."""
        with self.lock:
            for channel in list(self._channels):
                try:
                    send_step(channel, step, given)
                except OSError as error:
                    log.warning("a process beside this one does not keep the kubelet's connections any more: %s", error)
                    channel.close()
                    self._channels.remove(channel)
            self.kept.take(step, given)

    @property
    def is_kept_elsewhere(self) -> bool:
        """Whether a steerer that stands by goes on when this process and its parent end."""
        with self.lock:
            self._forget_ended()
            return any(one is not self._parent for one in self._channels)

    def _forget_ended(self) -> None:
        """Tell processes that have ended no more: they may be many before a step is told that would show it. Under the lock."""
        for channel in list(self._channels):
            if _has_ended(channel):
                channel.close()
                self._channels.remove(channel)

    def tell_from_now_on(self, channel: socket.socket) -> None:
        """Tell one more process: all that is kept, and then every step. Where there are too many, the oldest but the parent is left out."""
        with self.lock:
            self._forget_ended()
            if len(self._channels) >= _MOST_CHANNELS:
                oldest = next(one for one in self._channels if one is not self._parent)
                oldest.close()
                self._channels.remove(oldest)
            try:
                self.hand_over(channel)
            except OSError as error:
                log.warning("a process beside this one cannot keep the kubelet's connections: %s", error)
                channel.close()
            else:
                self._channels.append(channel)

    def has_half_sent(self, connection: tuple[str, int], is_half: bool) -> None:
        """Say whether the client of a connection, by endpoint and number, has got a part of a frame. Another process could not go on."""
        with self.lock:
            if is_half:
                self._half_sent.add(connection)
            elif connection in self._half_sent:
                self._half_sent.remove(connection)
                self._all_sent.notify_all()

    def wait_until_all_is_sent(self) -> None:
        """Let every connection come to the end of a frame, as far as its client takes it soon. The lock must be held; others get it."""
        self._all_sent.wait_for(lambda: not self._half_sent, _TELL_SECONDS)

    def hand_over(self, channel: socket.socket) -> None:
        """Send all that is kept. The lock must be held, and this process must end without another step. Raises OSError."""
        channel.settimeout(_TELL_SECONDS)
        for step, given in self.kept.steps():
            send_step(channel, step, given)

    def end(self, endpoint: str) -> None:
        """End an endpoint that nothing serves."""
        with self.lock:
            known = self.kept.endpoints.get(endpoint)
            if known is not None:
                for held in [known.socket, *(one.socket for one in known.connections.values())]:
                    shut(held)
                self.tell(Ended(endpoint))


def _has_ended(channel: socket.socket) -> bool:
    """Whether the other side is gone: it never sends anything."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))
