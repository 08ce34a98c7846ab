"""The drawing of every bundled platform: all GPUs, none over another, all links, at any width."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import httpx
import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.ui.browser import NARROW, WIDE, need_browser, watched
from tests.ui.staged_cluster import Stage
from topology.platforms import machine_of, platforms

PLATFORMS = list(platforms())
BOXES = "[...document.querySelectorAll('[data-gpu]')].map(e => (r => [r.left, r.top, r.right, r.bottom])(e.getBoundingClientRect()))"

CROSSED = """[...document.querySelectorAll(".react-flow__edge[data-id^='socket link'] path.react-flow__edge-path")].flatMap(path => {
  const boxes = [...document.querySelectorAll('.react-flow__node')].map(e => [e.dataset.id, e.getBoundingClientRect()])
  const shown = path.getScreenCTM()
  return [...Array(41).keys()].flatMap(part => {
    const at = path.getPointAtLength(path.getTotalLength() * part / 40).matrixTransform(shown)
    const isIn = box => at.x > box.left + 2 && at.x < box.right - 2 && at.y > box.top + 2 && at.y < box.bottom - 2
    return boxes.filter(([, box]) => isIn(box)).map(([id]) => path.closest('.react-flow__edge').dataset.id + ' over ' + id)
  })
})"""
"""Links of sockets that pass over a box."""


@pytest.fixture(scope="module")
def machines() -> Iterator[str]:
    need_browser()
    with Stage({name: machine_of(name, name) for name in PLATFORMS}).serving() as url:
        yield url


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1440 px", "375 px"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_gpu_has_a_place_of_its_own_and_every_link_is_drawn(
    browser: Browser, machines: str, platform: str, size: dict[str, int]
) -> None:
    machine = httpx.get(f"{machines}/v1/nodes/{platform}/machine", timeout=20).json()
    nics = {vertex["id"] for vertex in machine["vertices"] if vertex["kind"] == "nic"}
    drawn = [edge for edge in machine["edges"] if edge["a"] not in nics and edge["b"] not in nics]
    with watched(browser, machines, size=ViewportSize(width=size["width"], height=size["height"])) as page:
        page.open(f"/nodes/{platform}")
        expect(page.page.locator("[data-gpu]")).to_have_count(len(machine["gpus"]))
        expect(page.page.locator(".react-flow__edge")).to_have_count(len(drawn))
        boxes: list[list[float]] = page.page.evaluate(BOXES)
        assert page.page.evaluate(CROSSED) == []
    overlapping = [(a, b) for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
    assert overlapping == []
