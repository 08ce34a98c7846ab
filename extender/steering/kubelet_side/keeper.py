"""What the serving process knows of its own connections to the kubelet, and tells the processes beside it."""

from __future__ import annotations

import logging
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
        self._channels = [channel] if channel is not None else []
        for one in self._channels:
            one.settimeout(_TELL_SECONDS)
        self.lock = threading.RLock()
        """Held while a step is made, so that another thread that takes it sees only whole steps."""

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
            return len(self._channels) > 1

    def tell_from_now_on(self, channel: socket.socket) -> None:
        """Tell one more process: all that is kept, and then every step."""
        with self.lock:
            try:
                self.hand_over(channel)
            except OSError as error:
                log.warning("a process beside this one cannot keep the kubelet's connections: %s", error)
                channel.close()
            else:
                self._channels = [*self._channels[-_MOST_CHANNELS + 1 :], channel]

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
