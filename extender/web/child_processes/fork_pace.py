"""When this process may be copied again, so that copying takes a bounded share of its time."""

from __future__ import annotations

from collections.abc import Callable

MOST_SHARE = 0.0025
"""The share of time that the process may stand still in order to be copied. Kube-scheduler's calls wait meanwhile: at 0.25 %, one call in
four hundred meets a copy, and about as many are slower because pages of the memory are copied."""
MOST_WAIT_SECONDS = 5.0
"""A longer wait would be more than people and clients accept; it is reached where a copy takes 12 ms."""
_AT_ONCE = 2
"""So many copies may be owed when one more is made: a person who asks three questions in a row waits for none."""


def always() -> bool:
    """Return True: kube-scheduler may call at any time."""
    return True


class ForkPace:
    """Counts the time that copies have taken, against the share that they may take while kube-scheduler calls. Not thread-safe.

    Copying takes 1 ms in a small cluster, and 10 to 20 ms with 5,000 nodes: the page table is copied, and the memory after that, page by
    page, as the process writes to it.
    """

    def __init__(self, most_share: float = MOST_SHARE, is_called: Callable[[], bool] = always) -> None:
        """`is_called`: whether kube-scheduler calls at this time; while it does not, no copy has to wait."""
        self._most_share, self._is_called = most_share, is_called
        self._owed_seconds = 0.0
        """Time that copies have taken, less the share of the time since."""
        self._last_seconds = 0.0
        """How long the last copy has taken."""
        self._counted_seconds = 0.0
        """The time at which `_owed_seconds` was counted."""

    def wait_seconds(self, now_seconds: float) -> float:
        """Return how long to wait before the next copy, 0 for not at all. `now_seconds`: of a clock that is never set back."""
        self._count(now_seconds)
        if not self._is_called():
            return 0.0
        return min(MOST_WAIT_SECONDS, max(0.0, self._owed_seconds - _AT_ONCE * self._last_seconds) / self._most_share)

    def forked(self, now_seconds: float, taken_seconds: float) -> None:
        """Count a copy that has taken so long."""
        self._count(now_seconds)
        most_owed_seconds = MOST_WAIT_SECONDS * self._most_share + _AT_ONCE * taken_seconds
        self._owed_seconds = min(self._owed_seconds + taken_seconds, most_owed_seconds)
        self._last_seconds = taken_seconds

    def _count(self, now_seconds: float) -> None:
        earned_seconds = self._most_share * (now_seconds - self._counted_seconds)
        self._owed_seconds, self._counted_seconds = max(0.0, self._owed_seconds - earned_seconds), now_seconds
