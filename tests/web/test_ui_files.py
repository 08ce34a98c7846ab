"""The files of the web UI: which paths are answered with what, cached how, and what is never served."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
from pathlib import Path

import pytest

from extender.web.ui_files import CLIENT_ROUTES, FOR_EVER, REVALIDATED, UiFiles, read_files
from tests.web.asgi_calls import call

INDEX, SCRIPT = b"<!doctype html><title>Fabricwise</title>", b"console.log('fabricwise')" * 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_bytes(INDEX)
    (built / "icon.svg").write_text("<svg/>")
    (built / "assets/app-1a2b3c.js").write_bytes(SCRIPT)
    (built / "assets/app-1a2b3c.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "secret.txt").write_text("secret")
    (built / "link.txt").symlink_to(tmp_path / "secret.txt")
    return built


# path -> (status, content type, Cache-Control)
SERVED = {
    "/": (200, "text/html; charset=utf-8", REVALIDATED),
    "/nodes/%3Cimg%20src=x%20onerror=alert(1)%3E": (200, "text/html; charset=utf-8", REVALIDATED),
    "/pods/ns/name": (200, "text/html; charset=utf-8", REVALIDATED),
    "/decisions/1.2": (200, "text/html; charset=utf-8", REVALIDATED),
    "/what-if": (200, "text/html; charset=utf-8", REVALIDATED),
    "/icon.svg": (200, "image/svg+xml", REVALIDATED),
    "/assets/app-1a2b3c.js": (200, "text/javascript; charset=utf-8", FOR_EVER),
    "/assets/other.js": (404, "application/json", None),
    "/assets": (404, "application/json", None),
    "/nodesx": (404, "application/json", None),
    "/index.html.gz": (404, "application/json", None),
    "/assets/app-1a2b3c.js.gz": (404, "application/json", None),
    "/link.txt": (404, "application/json", None),
    "/../secret.txt": (404, "application/json", None),
    "/assets/../../secret.txt": (404, "application/json", None),
    "/assets/%2e%2e/%2e%2e/secret.txt": (404, "application/json", None),
    "/..%2fsecret.txt": (404, "application/json", None),
    "//etc/passwd": (404, "application/json", None),
    "/%00": (404, "application/json", None),
}


@pytest.mark.parametrize("path", SERVED)
def test_path_is_answered_from_the_build_alone(folder: Path, path: str) -> None:
    response = call(UiFiles(folder), path)
    status, content_type, cache_control = SERVED[path]
    assert (response.status, response.headers["content-type"]) == (status, content_type)
    assert response.headers.get("cache-control") == cache_control
    assert "secret" not in response.text


NAVIGATION = "text/html,application/xhtml+xml,*/*;q=0.8"
"""What a browser accepts where an address is opened in it."""


@pytest.mark.parametrize("path", ["/nope", "/nodesx/a", "/index"])
def test_browser_that_opens_an_address_without_a_page_gets_the_ui_with_status_404(folder: Path, path: str) -> None:
    response = call(UiFiles(folder), path, Accept=NAVIGATION)
    assert (response.status, response.content) == (404, INDEX)
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/v1/nope", "/assets/nope", "/metrics/nope", "/nope.js", "/link.txt", "/../secret.txt"])
def test_address_of_a_file_or_of_the_api_is_no_page_also_for_a_browser(folder: Path, path: str) -> None:
    response = call(UiFiles(folder), path, Accept=NAVIGATION)
    assert (response.status, response.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize("route", CLIENT_ROUTES)
def test_every_client_route_shows_the_page(folder: Path, route: str) -> None:
    files = UiFiles(folder)
    assert call(files, f"/{route}").content == call(files, f"/{route}/a/b").content == INDEX


def test_client_gets_the_compressed_file_only_if_it_accepts_that(folder: Path) -> None:
    for accepted, encoding in (("gzip, br", "gzip"), ("identity", None)):
        response = call(UiFiles(folder), "/assets/app-1a2b3c.js", Accept_Encoding=accepted)
        assert response.text == SCRIPT.decode()
        assert response.headers.get("content-encoding") == encoding
        assert response.headers["vary"] == "Accept-Encoding"


def test_known_file_is_not_sent_again(folder: Path) -> None:
    files = UiFiles(folder)
    again = call(files, "/", If_None_Match=call(files, "/").headers["etag"])
    assert (again.status, again.content) == (304, b"")


def test_new_build_is_served_without_a_restart(folder: Path) -> None:
    files = UiFiles(folder)
    assert call(files, "/").content == INDEX
    (folder / "index.html").write_bytes(b"newer")
    os.utime(folder / "index.html", (2e9, 2e9))
    assert call(files, "/").content == b"newer"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_find_nothing(folder: Path, method: str) -> None:
    assert call(UiFiles(folder), "/", method).status == 404


def test_without_a_build_each_page_says_how_to_make_one(tmp_path: Path) -> None:
    response = call(UiFiles(tmp_path), "/nodes/x")
    assert response.status == 200
    assert "make ui" in response.text
    (digest,) = re.findall(r"style-src 'sha256-([^']+)'", response.headers["content-security-policy"])
    (style,) = re.findall(r"<style>(.*?)</style>", response.text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() == digest, "the policy allows exactly this style"
    assert read_files(tmp_path) == {}
