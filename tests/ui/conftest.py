"""One browser and one served cluster for all tests of the web UI; a test that changes the cluster makes one of its own.

Both end with this package: an event loop of the browser runs in the main thread, and tests of other packages need loops of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser

from tests.ui.browser import chromium, need_browser
from tests.ui.staged_cluster import Stage
from topology.platforms import machine_of


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    need_browser()
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def staged() -> Iterator[str]:
    """The address of a served cluster that no test changes."""
    need_browser()
    stage = Stage()
    with stage.serving() as url, httpx.Client(base_url=url, timeout=20) as client:
        stage.play(client)
        yield url


@pytest.fixture
def stage() -> Stage:
    """Three nodes for a test that changes them."""
    return Stage({f"hgx-h100-{number}": machine_of("hgx-h100", f"hgx-h100-{number}") for number in range(3)})


@pytest.fixture
def served(stage: Stage) -> Iterator[tuple[str, httpx.Client]]:
    with stage.serving() as url, httpx.Client(base_url=url, timeout=20) as client:
        yield url, client
