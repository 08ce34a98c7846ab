"""The files of the web UI, which its build makes in `extender/web/ui/dist`. All are read into memory; a path is only ever looked up there.

Without a build, every page says how to make one.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from extender.web.access.security_headers import POLICY

FOLDER = Path(__file__).parent / "ui" / "dist"

INDEX = "index.html"
CLIENT_ROUTES = ("nodes", "pods", "decisions", "what-if", "slots", "history", "login")
"""First segments of the paths that the UI itself handles, besides `/`: each is answered with its index."""

API_ROOTS = ("v1", "scheduler", "metrics", "assets")
"""First segments of addresses that are no pages: what is not there is answered as JSON, also to a browser."""

HASHED = "assets/"
"""Folder of files whose names change with their content."""

MOST_FILE_BYTES = 16 << 20
MOST_BYTES = 64 << 20
"""Of all files together; further ones are not served."""

FOR_EVER = "public, max-age=31536000, immutable"
REVALIDATED = "no-cache"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".map": "application/json",
}

log = logging.getLogger("fabricwise.ui")


@dataclass(frozen=True, slots=True)
class UiFile:
    """One file."""

    content: bytes
    compressed: bytes | None
    """The same as gzip; None where the build made none."""
    media_type: str
    etag: str
    cache_control: str


def read_files(folder: Path) -> dict[str, UiFile]:
    """Return path below the folder -> file; empty where the folder has no index. Links that lead out of the folder are left out."""
    if not (folder / INDEX).is_file():
        return {}
    root, total = folder.resolve(), 0
    paths: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if not path.is_file() or not path.resolve().is_relative_to(root):
            continue
        size = path.stat().st_size
        total += size
        if size > MOST_FILE_BYTES or total > MOST_BYTES:
            log.warning("%s is not served: the files of the web UI are larger than %d MiB", path, MOST_BYTES >> 20)
            continue
        paths[path.relative_to(root).as_posix()] = path
    return {name: _file(name, path, paths.get(f"{name}.gz")) for name, path in paths.items() if not name.endswith(".gz")}


def _file(name: str, path: Path, compressed: Path | None) -> UiFile:
    content = path.read_bytes()
    return UiFile(
        content=content,
        compressed=compressed.read_bytes() if compressed is not None else None,
        media_type=TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        cache_control=FOR_EVER if name.startswith(HASHED) else REVALIDATED,
    )


class UiFiles:
    """The web UI's files as an ASGI application: `/`, the client routes, and every file."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._made: float | None = None
        """Modification time of the index of `_files`; None where there is none."""
        self._files: Mapping[str, UiFile] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            request = Request(scope)
            files = await run_in_threadpool(self.files)
            await _answer(files, scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/"), request)(scope, receive, send)

    def files(self) -> Mapping[str, UiFile]:
        """Return the files of the newest build."""
        index = self._folder / INDEX
        made = index.stat().st_mtime if index.is_file() else None
        if made != self._made:
            self._files, self._made = read_files(self._folder), made
        return self._files


def _answer(files: Mapping[str, UiFile], path: str, request: Request) -> Response:
    """Return the answer to a request of a path without its leading slash."""
    if request.method not in ("GET", "HEAD"):
        return JSONResponse({"detail": "Not Found"}, 404)
    if not path or path.split("/", 1)[0] in CLIENT_ROUTES:
        return _response(files[INDEX], request) if INDEX in files else missing_page()
    if path in files:
        return _response(files[path], request)
    if INDEX in files and _is_navigation(path, request):
        return Response(files[INDEX].content, 404, {"Cache-Control": "no-store"}, media_type=files[INDEX].media_type)
    return JSONResponse({"detail": "Not Found"}, 404)


def _is_navigation(path: str, request: Request) -> bool:
    """Whether a browser opens an address that no page has, and not a program or a page that asks for a file or for the API."""
    first, last = path.split("/", 1)[0], path.rsplit("/", 1)[-1]
    return first not in API_ROOTS and "." not in last and "text/html" in request.headers.get("accept", "")


def _response(file: UiFile, request: Request) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": file.cache_control}
    if file.compressed is not None:
        headers["Vary"] = "Accept-Encoding"
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    if file.compressed is None or "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.content, 200, headers, media_type=file.media_type)
    return Response(file.compressed, 200, {**headers, "Content-Encoding": "gzip"}, media_type=file.media_type)


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; }
main { max-width: 36rem; padding: 2rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
code { font: .9em ui-monospace, monospace; background: #8882; padding: .1em .35em; border-radius: .3em; }
a { color: light-dark(#0b57d0, #a8c7fa); }
"""

_MISSING = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Fabricwise: the web UI is not built</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>The web UI is not built here</h1>
<p>Fabricwise runs, and its API answers. The pages of its web UI are not part of a source checkout: they are made by a build.</p>
<p>Run <code>make ui</code> in the checkout, which needs Node.js, and load this page again. Packages and images contain the pages.</p>
<p>Meanwhile: <a href="/docs">the API, described</a>, <a href="/v1/cluster">the cluster as JSON</a>.</p>
</main>
</body>
</html>
"""


def missing_page() -> Response:
    """Return the page that says how to build the UI."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = POLICY.replace("style-src 'self'", f"style-src 'sha256-{digest}'")
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(_MISSING, 200, headers, media_type="text/html; charset=utf-8")
