"""The gate before `/v1`: a request needs a bearer token that the API server knows, and whose user may do that on that path.

The rest of the port is the same for every cluster: files of the UI, the description of the API. It needs no token.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar, cast

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from extender.scheduling.ports import ReviewError, TokenReviews

GUARDED = "/v1"
"""This path and all below it need a token."""

MOST_TOKEN_CHARACTERS = 16 << 10
MOST_PATH_CHARACTERS = 2 << 10
MOST_KEPT = 4_096
"""Answers of the API server that are kept."""
MOST_ASKED = 32
"""Questions to the API server at the same time; a request that needs a further one is answered 503."""
THREADS = 8
RETRY_SECONDS = 2

T = TypeVar("T")
log = logging.getLogger("fabricwise.access")


class TokenGate:
    """An ASGI application that lets requests pass whose token the API server accepts. It runs in one event loop."""

    def __init__(self, app: ASGIApp, reviews: TokenReviews, kept_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`kept_seconds`: how long an answer of the API server counts."""
        self._app, self._reviews = app, reviews
        self._answers = KeptAnswers(kept_seconds, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http" or not is_guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        refused = await self._refused(scope)
        await (refused or self._app)(scope, receive, send)

    async def _refused(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not pass; None where it may."""
        token = bearer_token(scope)
        if token is None:
            return _unauthorized("this needs a token: send `Authorization: Bearer TOKEN`; `kubectl create token ACCOUNT` makes one")
        path, verb = scope["path"], scope["method"].lower()
        if len(path) > MOST_PATH_CHARACTERS:
            return _answer(414, f"the path is longer than {MOST_PATH_CHARACTERS} characters")
        digest = hashlib.sha256(token.encode()).digest()
        try:
            user = await self._answers.get(digest, partial(self._reviews.authenticate, token))
            if user is None:
                return _unauthorized("the API server does not accept this token: it may have expired; get a new one")
            allowed = await self._answers.get((digest, verb, path), partial(self._reviews.may, user, verb, path))
        except ReviewError as error:
            log.warning("a token cannot be checked: %s", error)
            return _answer(503, str(error), {"Retry-After": str(RETRY_SECONDS)})
        if allowed:
            return None
        remedy = "a ClusterRole with nonResourceURLs [/v1/*] allows it: bind fabricwise-viewer of manifests/debug-tokens"
        return _answer(403, f"{user.name} may not {verb} {path}: {remedy}")


class KeptAnswers:
    """Answers of the API server, each kept for a time; a question that is being asked is not asked twice."""

    def __init__(self, kept_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_seconds, self._clock = kept_seconds, clock
        self._kept: OrderedDict[object, tuple[float, object]] = OrderedDict()
        """Question -> (monotonic time until which its answer counts, answer), the oldest first."""
        self._asked: dict[object, asyncio.Future[object]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="token-reviews")

    async def get(self, question: object, ask: Callable[[], T]) -> T:
        """Return the answer to a question; `ask`, which may block, is called where none is kept. Raises ReviewError."""
        kept = self._kept.get(question)
        if kept is not None and self._clock() < kept[0]:
            return cast(T, kept[1])
        asked = self._asked.get(question)
        if asked is None:
            if len(self._asked) >= MOST_ASKED:
                raise ReviewError("too many tokens are being checked; try again in some seconds")
            asked = asyncio.get_running_loop().run_in_executor(self._threads, cast(Callable[[], object], ask))
            self._asked[question] = asked
            asked.add_done_callback(lambda done: self._settle(question, done))
        return cast(T, await asyncio.shield(asked))

    def _settle(self, question: object, done: asyncio.Future[object]) -> None:
        """Keep an answer, but no error: the next request asks again."""
        self._asked.pop(question, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._kept.pop(question, None)
        self._kept[question] = (self._clock() + self._kept_seconds, done.result())
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)


def is_guarded(path: str) -> bool:
    """Whether a path needs a token."""
    return path == GUARDED or path.startswith(f"{GUARDED}/")


def bearer_token(scope: Scope) -> str | None:
    """Return the token of a request; None where it has none, more than one, or one that cannot be a token."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    token = token.strip()
    is_token = scheme.lower() == "bearer" and token.isascii() and token.isprintable() and " " not in token
    return token if is_token and 0 < len(token) <= MOST_TOKEN_CHARACTERS else None


def _unauthorized(error: str) -> Response:
    return _answer(401, error, {"WWW-Authenticate": 'Bearer realm="fabricwise"'})


def _answer(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode({"error": error}), status, headers, media_type="application/json")
