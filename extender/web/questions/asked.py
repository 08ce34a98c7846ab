"""How a question of people is answered: long work beside the verbs, whose outcome is an HTTP response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
from fastapi import Response

from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.scorers import Ranker
from extender.decision.pace import Pace
from extender.errors import FabricwiseError
from extender.web.body import is_long
from extender.web.long_work import LongWork, NotDone

Read = TypeVar("Read")
OwnContext = Callable[[], tuple[EvaluationContext, Ranker]]
"""Returns what evaluates and ranks for one question, with caches of its own: those of the verbs have locks."""

RETRY_SECONDS = 5
"""What a caller is told to wait while other questions are answered."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a response, which is encoded as JSON, and its status."""

    body: object
    status: int = 200


_FINE = Answer(None)


def refused(why: str, status: int = 400) -> Answer:
    """Return the answer to a question that cannot be answered. `why` names what is wrong, where, and a remedy."""
    return Answer({"error": why}, status)


async def answered(long_work: LongWork, ask: Callable[[Pace], Answer], seconds: float) -> Response:
    """Return the response of `ask`, which runs as long work for at most `seconds`.

    A FabricwiseError is an error of the request, status 400. Status 503: other questions are being answered, or the time is over.
    """
    done = await long_work.run(lambda pace: encoded(ask, pace), seconds)
    return not_answered(done) if isinstance(done, NotDone) else response_of(done)


def encoded(ask: Callable[[Pace], Answer], pace: Pace) -> bytes:
    """Return the status, three digits, and the body of the answer of `ask`: what a child process hands over."""
    try:
        answer = ask(pace)
    except FabricwiseError as error:
        answer = refused(str(error))
    return b"%03d" % answer.status + _encode(answer.body)


def response_of(done: bytes) -> Response:
    """Return the response of an `encoded` answer."""
    return Response(done[3:], int(done[:3]), media_type="application/json")


def response_of_answer(answer: Answer) -> Response:
    """Return the response of an answer that was found in this process."""
    return Response(_encode(answer.body), answer.status, media_type="application/json")


def reader(body: bytes, decode: Callable[[bytes], Read]) -> Callable[[], Read]:
    """Return what reads a request body. A long body is decoded by each call, which belongs into a child process; a short one now.

    Raises what `decode` raises.
    """
    if is_long(body):
        return partial(decode, body)
    read = decode(body)
    return lambda: read


async def refusal(long_work: LongWork, check: Callable[[], object], seconds: float) -> Response | None:
    """Return the response to a request that `check` refuses by a FabricwiseError, in a child process; None where it does not."""

    def checked(_: Pace) -> Answer:
        check()
        return _FINE

    done = await long_work.run(lambda pace: encoded(checked, pace), seconds)
    if isinstance(done, NotDone):
        return not_answered(done)
    response = response_of(done)
    return None if response.status_code == _FINE.status else response


def not_answered(not_done: NotDone) -> Response:
    """Return the response to a question whose work was not done: status 503, with the time after which to try again."""
    headers = {"Retry-After": str(RETRY_SECONDS)} if not_done.is_busy else {}
    return Response(_encode({"error": not_done.why}), 503, headers, media_type="application/json")
