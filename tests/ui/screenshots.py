"""Takes the screenshots of the web UI: `python -m tests.ui.screenshots FOLDER` (make screenshots).

The cluster is the staged one, so that they change only when the pages do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import ViewportSize

from tests.ui.browser import NARROW, Scheme, Watched, chromium, need_browser, watched
from tests.ui.staged_cluster import BROKEN_NODE, SLOW_POD, Stage

WINDOW = ViewportSize(width=1360, height=850)


@dataclass(frozen=True)
class Shot:
    """One picture: a path, a text that the page has once it is complete, and how it is looked at."""

    path: str
    text: str
    scheme: Scheme
    is_narrow: bool = False
    live_pods: int = 0
    """Pods to place while the page is open."""


SHOTS = {
    "ui-cluster-light": Shot("/", "GPUs on", "light", live_pods=3),
    "ui-cluster-narrow": Shot("/", "GPUs on", "dark", is_narrow=True, live_pods=2),
    "ui-node-dark": Shot(f"/nodes/{BROKEN_NODE}?gpus=2,3", "What limits them", "dark"),
    "ui-node-light": Shot("/nodes/dgx-1v-0?gpus=0,1,4", "What limits them", "light"),
    "ui-node-narrow": Shot(f"/nodes/{BROKEN_NODE}", "is a bridge missing?", "light", is_narrow=True),
    "ui-pod-light": Shot(f"/pods/{SLOW_POD}", "What limits these GPUs", "light"),
    "ui-decisions-dark": Shot("/decisions", "Node or reason", "dark", live_pods=2),
    "ui-what-if-light": Shot("/what-if?add=4x3&nodes=1xhgx-h100", "Where pods go", "light"),
}


def take(name: str, shot: Shot, page: Watched, stage: Stage, client: httpx.Client, folder: Path) -> int:
    """Take one picture. Returns its bytes."""
    page.page.goto(page.url + shot.path)
    page.page.get_by_text(shot.text).first.wait_for(timeout=20_000)
    for _ in range(shot.live_pods):
        page.page.get_by_text(stage.next_pod(client).split("/")[1]).first.wait_for(timeout=20_000)
    page.page.wait_for_timeout(1500)
    file = folder / f"{name}.png"
    page.page.screenshot(path=file, animations="disabled")
    shrink(file)
    return file.stat().st_size


def shrink(file: Path) -> None:
    """Reduce a picture to 256 colours, which makes it two thirds smaller, where pngquant is on PATH; else it remains as it is."""
    tool = shutil.which("pngquant")
    if tool is not None:
        subprocess.run([tool, "--force", "--strip", "--speed", "1", "--nofs", "--ext", ".png", "256", "--", str(file)], check=True)


def main(folder: Path) -> None:
    """Take all pictures. One cluster for each scheme, so that the order of the pictures does not matter much."""
    need_browser()
    with chromium() as browser:
        for name, shot in SHOTS.items():
            stage = Stage()
            with stage.serving() as url, httpx.Client(base_url=url, timeout=20) as client:
                stage.play(client)
                with watched(browser, url, shot.scheme, NARROW if shot.is_narrow else WINDOW) as page:
                    size = take(name, shot, page, stage, client, folder)
                    print(f"{name}.png {size >> 10} KiB {'; '.join(page.complaints)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
