"""The browser of the tests, and what they watch in it. A test without a browser or without a built UI is skipped with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.checkout import ROOT

Scheme = Literal["light", "dark"]
UI = ROOT / "extender" / "web" / "ui"
AXE = UI / "node_modules" / "axe-core" / "axe.min.js"
REQUIRED = "FABRICWISE_REQUIRE_UI"
"""Environment variable: 1 = a missing browser or build fails the tests."""
WIDE, NARROW = ViewportSize(width=1440, height=900), ViewportSize(width=375, height=800)


def missing() -> str | None:
    """Return what the tests lack; None where they can run."""
    if executable() is None:
        return "no chromium on PATH: install Debian's package chromium, or set CHROMIUM to the path of one"
    if not (UI / "dist" / "index.html").exists():
        return "the web UI is not built: make ui"
    return None if AXE.exists() else "axe-core is not installed: make ui"


def executable() -> str | None:
    """Return the path of Chromium."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def need_browser() -> None:
    """Skip the test, or fail it where the browser is required, if something is missing."""
    lack = missing()
    if lack is None:
        return
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(lack)
    pytest.skip(lack)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and everything that it must not do."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, and exceptions."""
    elsewhere: list[str] = field(default_factory=list)
    """Requests to another host."""

    def open(self, path: str) -> None:
        """Go to a path, and wait until its heading is there."""
        self.page.goto(self.url + path)
        self.page.locator("h1").first.wait_for(state="attached")

    def axe(self) -> list[str]:
        """Return what axe-core finds, one line per element."""
        self.page.evaluate(AXE.read_text())  # by the debugger's protocol: the policy forbids a script element
        found: list[dict[str, Any]] = self.page.evaluate("async () => (await axe.run(document)).violations")
        return [f"{rule['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})" for rule in found for node in rule["nodes"]]


@contextmanager
def watched(browser: Browser, url: str, scheme: Scheme = "light", size: ViewportSize = WIDE) -> Iterator[Watched]:
    """Open a page of its own in a window of its own, in a colour scheme and size."""
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    watching = Watched(page, url)
    page.on("console", lambda message: watching.complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: watching.complaints.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((url, "blob:")) else watching.elsewhere.append(request.url))
    try:
        yield watching
    finally:
        context.close()
