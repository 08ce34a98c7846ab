"""Evaluations that take longer than a verb may block, in a thread beside the event loop.

The first pod with a new demand needs a verdict on every distinct node state. The verbs wait for it for a limited time and then ask
kube-scheduler to try again; the thread goes on, and the next attempt finds the verdicts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from extender.decision.evaluate.by_name.verdict_table import Unevaluated
from extender.decision.request.pod_request import Demand

_MOST_WAITING = 32
"""Demands that wait for the thread; with more, a verb does not wait."""


class FirstEvaluations:
    """Runs evaluations one after another, one per demand at a time. For the event loop's thread alone."""

    def __init__(self, evaluate: Callable[[Unevaluated], None]) -> None:
        """`evaluate` is called in another thread."""
        self._evaluate = evaluate
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="first-evaluations")
        self._running: dict[Demand, asyncio.Future[None]] = {}

    async def completed(self, unevaluated: Unevaluated, seconds: float) -> bool:
        """Return whether an evaluation for the demand is completed within `seconds`. It goes on where it is not.

        Raises what the evaluation has raised.
        """
        demand = unevaluated.demand
        running = self._running.get(demand)
        if running is None:
            if len(self._running) >= _MOST_WAITING:
                return False
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._evaluate, unevaluated)
            self._running[demand] = running
            running.add_done_callback(lambda _: self._running.pop(demand, None))
        done, _ = await asyncio.wait([running], timeout=max(0.0, seconds))
        if done:
            running.result()
        return bool(done)
