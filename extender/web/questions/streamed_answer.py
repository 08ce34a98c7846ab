"""A response whose body is computed in a child process while it is sent. Nothing of it is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from extender.web.child_processes.frames import AnswerFailedError
from extender.web.long_work import AnswerStream

SEND_SECONDS = 30.0
"""A client that takes nothing for this time is disconnected."""

logger = logging.getLogger("fabricwise.questions")


class StreamedAnswer(StreamingResponse):
    """Sends the parts of an answer.

    Where the work fails after the first part, the connection is closed before the body's end: its client sees that the body is not whole.
    """

    def __init__(self, stream: AnswerStream, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(aiter(stream), 200, headers, media_type)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and end the work where the client leaves before."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()

    async def stream_response(self, send: Send) -> None:
        """Send the head and each part; the end only after the last part."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for part in self.body_iterator:
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            logger.warning("an answer is not sent to its end: its client has taken nothing for %g seconds", SEND_SECONDS)
        except AnswerFailedError as error:
            logger.warning("an answer is not sent to its end: %s", error)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
