"""An extender that records the nodes of each filter request and refuses all of them, so that no pod is bound."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSAL = "refused by the test"


@dataclass
class Recorder:
    """The recorded requests of kube-scheduler."""

    url: str = ""
    asked: dict[str, frozenset[str]] = field(default_factory=dict)
    """Pod's name -> the nodes that passed kube-scheduler's own filters, when it was last asked about."""


@contextmanager
def recording_extender() -> Iterator[Recorder]:
    """The extender on loopback, until the block ends."""
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = body["NodeNames"] or []
            recorder.asked[body["Pod"]["metadata"]["name"]] = frozenset(names)
            refused = dict.fromkeys(names, REFUSAL)
            answer: dict[str, object] = {
                "Nodes": None,
                "NodeNames": [],
                "FailedNodes": {},
                "FailedAndUnresolvableNodes": refused,
                "Error": "",
            }
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
