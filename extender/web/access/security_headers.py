"""Headers that limit what a browser does with an answer: no script, style or connection from elsewhere, no frame, no guess of the type."""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
"""Content-Security-Policy of every answer that has none of its own."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Header -> its value where the answer has none. Data of the cluster is kept by no cache."""


DOCS = "/docs"
"""The page of Swagger UI: it has one inline script, and writes styles."""

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class SecurityHeaders:
    """An ASGI application whose answers have `HEADERS`, except those below `without`, which no browser reads."""

    def __init__(self, app: ASGIApp, without: str = "/scheduler/") -> None:
        self._app, self._without = app, without

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(self._without):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, _DocsPolicy(send_with_headers) if scope["path"] == DOCS else send_with_headers)


class _DocsPolicy:
    """Sends the page of Swagger UI with a policy that allows exactly its inline script. The page is one message."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Send a message; the start of the answer is sent together with its body."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            scripts = _INLINE_SCRIPT.findall(message.get("body", b""))
            digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
            policy = POLICY.replace("script-src 'self'", f"script-src 'self' {digests}".rstrip())
            policy = policy.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
            MutableHeaders(scope=start)["Content-Security-Policy"] = policy
            await self._send(start)
        await self._send(message)
