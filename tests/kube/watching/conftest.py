"""A served script with the watch of a cluster store on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
import yaml

from extender.kube.api_client import api_client
from extender.kube.watching import watch as watch_module
from extender.kube.watching.watch import ClusterWatch
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.settings import Kube
from tests.kube.watching.scripted_watch import Rig, Script
from tests.objects import GPU


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlparse(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            status, body = script.reply(url.path, query)
            self.send_response(status or 200)
            if "watch" in query and status in (0, 200):
                self._stream(body, is_broken=status == 0)
                return
            self.send_header("Content-Length", str(len(body) + (1000 if status == 0 else 0)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = status == 0

        def _stream(self, body: bytes, is_broken: bool) -> None:
            """Send each line as an HTTP chunk of its own, as an API server does; all of them at once."""
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in body.splitlines(keepends=True))
            self.wfile.write(chunks + (b"" if is_broken else b"0\r\n\r\n"))
            self.close_connection = is_broken

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "current-context": "t",
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "clusters": [{"name": "t", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "t", "user": {"token": "secret"}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(watch_module, "_ABSENT_RETRY_SECONDS", 0.05)
    store, metrics = ClusterStore(GPU, warm_tables=False), Metrics()
    watch = ClusterWatch(api_client(str(kubeconfig)), store, Kube(max_backoff_seconds=0.05), metrics)
    yield Rig(script, store, metrics, watch.start)
    watch.stop()
    server.shutdown()
    server.server_close()
