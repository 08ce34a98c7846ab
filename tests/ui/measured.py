"""How fast the web UI is on a large cluster, and how much memory it uses while the cluster changes.

`python -m tests.ui.measured [NODES] [MINUTES]`: by default 5,000 nodes and two minutes. It prints:
- the time from the start of the navigation until the first card of a node is drawn;
- per interaction the longest time from the event until the frame with its result is presented (the browser's Event Timing);
- the memory of JavaScript after a garbage collection, in the course of live updates.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

import httpx
from playwright.sync_api import CDPSession, Page

from tests.ui.browser import WIDE, chromium, need_browser, watched
from tests.ui.staged_cluster import Stage, pod_manifest
from topology.platforms import machine_of

PLATFORM_CYCLE = ("hgx-h100", "hgx-h100", "dgx-a100", "hgx-b200", "a100-pcie-bridge-pairs", "l40s", "l4", "hgx-h200", "dgx-1v", "t4")
CHANGES_PER_SECOND = 10
FIRST_CONTENT = """() => new Promise(done => {
  const look = () => document.querySelector("main a[href^='/nodes/']")
    ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))) : setTimeout(look, 4)
  look()
})"""
WATCH_EVENTS = """() => {
  window.longest = {}
  new PerformanceObserver(list => {
    for (const e of list.getEntries()) window.longest[e.name] = Math.max(window.longest[e.name] ?? 0, e.duration)
  }).observe({ type: 'event', durationThreshold: 16, buffered: false })
}"""


def large_stage(nodes: int) -> Stage:
    """Return a stage with so many nodes of several platforms."""
    names = [
        (f"{platform}-{number:04d}", platform) for number in range(nodes) for platform in (PLATFORM_CYCLE[number % len(PLATFORM_CYCLE)],)
    ]
    return Stage({name: machine_of(platform, name) for name, platform in names})


def churn(stage: Stage, stop: threading.Event) -> None:
    """Let pods come and go, on nodes all over the cluster, until `stop`."""
    names, number = list(stage.machines.machines), 0
    while not stop.wait(1 / CHANGES_PER_SECOND):
        node = names[number * 97 % len(names)]
        if stage.machines.free(node) & 1:
            stage.put(pod_manifest(f"churn-{number}", 1), node, (stage.machines.machines[node].gpus[0].index,))
        if number >= 200:
            stage.end(f"chat/churn-{number - 200}")
        number += 1


def first_content(page: Page, url: str) -> float:
    """Load the cluster page. Returns milliseconds until the first card is drawn."""
    page.goto(url, wait_until="commit")
    shown: float = page.evaluate(FIRST_CONTENT)
    return shown


def interactions(page: Page) -> dict[str, float]:
    """Return interaction -> the longest of its events in milliseconds; 0: none took 16 ms."""
    found: dict[str, float] = {}

    def measured(name: str) -> None:
        page.wait_for_timeout(700)
        found[name] = max(page.evaluate("Object.values(window.longest)"), default=0.0)
        page.evaluate("window.longest = {}")

    page.evaluate(WATCH_EVENTS)
    page.get_by_label("Search nodes").click()
    measured("focus the search")
    page.keyboard.type("h100-00", delay=120)
    measured("type in the search")
    for _ in range(7):
        page.keyboard.press("Backspace")
        page.wait_for_timeout(120)
    measured("clear the search")
    for label, letters in (("State", "with f"), ("Sort by", "Sort: Most po"), ("Fabric", "NVS"), ("Fabric", "All")):
        page.get_by_label(label, exact=True).focus()
        page.keyboard.type(letters)
        measured(f"{label}: {letters} ...")
    page.mouse.move(700, 600)
    for _ in range(12):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(60)
    measured("scroll")
    page.locator("main a[href^='/nodes/']").nth(12).click()
    page.locator("[data-gpu]").first.wait_for()
    measured("open a node")
    page.locator("[data-gpu]").first.click()
    measured("choose a GPU")
    page.go_back()
    page.locator("main a[href^='/nodes/']").first.wait_for()
    measured("back to the cluster")
    return found


def heap_mib(session: CDPSession) -> float:
    """Return the JavaScript heap in use, after a garbage collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"]) / (1 << 20)


def main(nodes: int, minutes: float) -> None:
    """Measure and print."""
    need_browser()
    stage = large_stage(nodes)
    stop = threading.Event()
    with stage.serving() as url, httpx.Client(base_url=url) as client, chromium() as browser, watched(browser, url, size=WIDE) as page:
        client.get("/v1/cluster", timeout=60)
        loads = [first_content(page.page, url) for _ in range(5)]
        print(
            f"{nodes} nodes: first content after {statistics.median(loads):.0f} ms (five loads: {', '.join(f'{ms:.0f}' for ms in loads)})"
        )
        changing = threading.Thread(target=churn, args=(stage, stop), daemon=True)
        changing.start()
        for name, milliseconds in interactions(page.page).items():
            print(f"  {name}: {milliseconds:.0f} ms" if milliseconds else f"  {name}: under 16 ms")
        session = page.page.context.new_cdp_session(page.page)
        session.send("Performance.enable")
        print(f"JavaScript memory with {CHANGES_PER_SECOND} changes each second:")
        started = time.monotonic()
        while (passed := time.monotonic() - started) < minutes * 60:
            print(f"  {passed:4.0f} s: {heap_mib(session):.1f} MiB", flush=True)
            page.page.wait_for_timeout(min(30_000, minutes * 15_000))
        print(f"  {time.monotonic() - started:4.0f} s: {heap_mib(session):.1f} MiB")
        stop.set()
        changing.join()
        print(f"console messages: {page.complaints or 'none'}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000, float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
