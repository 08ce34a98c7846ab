"""A real Prometheus server as a process on loopback. From PATH, or $PROMETHEUS; Debian's package has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.processes.control_plane import free_port


def prometheus_binary() -> str:
    """Return the path of the server. Without one, the test is skipped with a message, or fails if FABRICWISE_REQUIRE_PROMETHEUS=1."""
    found = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
    if found:
        return found
    reason = "no prometheus on PATH nor in $PROMETHEUS (Debian's package prometheus has it)"
    if os.environ.get("FABRICWISE_REQUIRE_PROMETHEUS") == "1":
        pytest.fail(f"FABRICWISE_REQUIRE_PROMETHEUS=1, but {reason}")
    pytest.skip(f"NOT TESTED against a real Prometheus server: {reason}")


def promtool_binary() -> str:
    """Return the path of promtool, which is installed beside the server; as `prometheus_binary` where it is missing."""
    beside = Path(prometheus_binary()).with_name("promtool")
    if beside.is_file():
        return str(beside)
    reason = f"no promtool beside {prometheus_binary()}"
    if os.environ.get("FABRICWISE_REQUIRE_PROMETHEUS") == "1":
        pytest.fail(f"FABRICWISE_REQUIRE_PROMETHEUS=1, but {reason}")
    pytest.skip(f"NOT TESTED with promtool: {reason}")


@contextmanager
def prometheus(folder: Path, jobs: list[dict[str, Any]], port: int | None = None) -> Iterator[str]:
    """Run the server until the block ends and yield its URL; it scrapes every 0.5 s."""
    port = port or free_port()
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"}, "scrape_configs": jobs}))
    command = [prometheus_binary(), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with (folder / "prometheus.log").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if child.poll() is not None or time.monotonic() > deadline:
                pytest.fail((folder / "prometheus.log").read_text()[-2000:])
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(timeout=20)
