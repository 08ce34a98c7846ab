"""An API server in memory that lists objects in pages, passes requests on to services, and records every request."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import httpx
import yaml

from tests.kube.port_forward import serve_port_forward

NODES, PODS, TOPOLOGIES = "/api/v1/nodes", "/api/v1/pods", "/apis/fabricwise.dev/v1alpha1/gputopologies"
BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
PATHS = {"Node": NODES, "Pod": PODS, "GpuTopology": TOPOLOGIES}


@dataclass
class ApiServer:
    """Lists at paths; every request is recorded."""

    lists: dict[str, list[dict[str, Any]]]
    """Path -> objects; other paths answer with 404."""
    singles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Path -> single object."""
    refused: dict[str, int] = field(default_factory=dict)
    """Path -> status with which it is refused."""
    expired_tokens: int = 0
    """Number of continue tokens that are still to be refused as expired (410)."""
    services: dict[str, str] = field(default_factory=dict)
    """Path of a service's proxy -> URL of what answers there; requests arrive without their Authorization, as from a real API server."""
    forwards: dict[str, int] = field(default_factory=dict)
    """Path of a pod's port-forward -> port on loopback to which it leads."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, query)."""
    kubeconfig: Path = Path()

    @property
    def methods(self) -> set[str]:
        """Return the HTTP methods of all requests."""
        return {method for method, _, _ in self.asked}

    def add(self, *manifests: dict[str, Any]) -> None:
        """Add objects to the lists of their kinds."""
        for manifest in manifests:
            self.lists.setdefault(PATHS[manifest["kind"]], []).append(manifest)

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and body of a GET."""
        if path in self.singles and path not in self.refused:
            return 200, self.singles[path]
        of_namespace = self._pods_of_namespace(path, query)
        if of_namespace is not None:
            return 200, {"kind": "List", "metadata": {"resourceVersion": "7"}, "items": of_namespace}
        status = self.refused.get(path) or (200 if path in self.lists else 404)
        if status != 200:
            return status, {"kind": "Status", "code": status, "message": f"refused with {status}"}
        start = int(query.get("continue", "0"))
        if start and self.expired_tokens:
            self.expired_tokens -= 1
            return 410, {"kind": "Status", "code": 410, "message": "The provided continue parameter is too old"}
        end = start + int(query.get("limit", "1000000"))
        items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in self.lists[path]]
        left = len(items) - end
        more = {"continue": str(end), "remainingItemCount": left} if left > 0 else {}
        return 200, {"kind": "List", "metadata": {"resourceVersion": "7", **more}, "items": items[start:end]}

    def _pods_of_namespace(self, path: str, query: dict[str, str]) -> list[dict[str, Any]] | None:
        """Return the listed pods of a namespace that a field or label selector selects; None for any other request."""
        found = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods", path)
        if found is None or path in self.refused or path in self.lists or not {"fieldSelector", "labelSelector"} & query.keys():
            return None
        name = query.get("fieldSelector", "").removeprefix("metadata.name=")
        label, _, value = query.get("labelSelector", "").partition("=")
        pods = [pod for pod in self.lists[PODS] if pod["metadata"].get("namespace", "default") == found[1]]
        return [
            pod
            for pod in pods
            if name in ("", pod["metadata"]["name"]) and (not label or (pod["metadata"].get("labels") or {}).get(label) == value)
        ]


@contextmanager
def api_server(folder: Path, **options: Any) -> Iterator[ApiServer]:
    """Serve on loopback until the block ends, with a kubeconfig for the server."""
    api = ApiServer(**{"lists": {NODES: [], PODS: []}, **options})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            url = urlparse(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.asked.append((self.command, url.path, query))
            if url.path in api.forwards and url.path not in api.refused:
                serve_port_forward(self.connection, self.headers["Sec-WebSocket-Key"], int(query["ports"]), api.forwards[url.path])
                self.close_connection = True
                return
            service = next((path for path in api.services if url.path.startswith(f"{path}/") and path not in api.refused), None)
            if service is not None:
                target = api.services[service] + self.path.removeprefix(service)
                answer = httpx.request(self.command, target, content=content, headers={"Content-Type": "application/json"}, timeout=30)
                status, data = answer.status_code, answer.content
            else:
                refused = next((path for path in api.refused if path.endswith("/proxy") and url.path.startswith(path)), url.path)
                status, body = api.answer(refused, query)
                data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.kubeconfig = folder / "kubeconfig"
    api.kubeconfig.write_text(yaml.safe_dump(kubeconfig(f"http://127.0.0.1:{server.server_port}")))
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def kubeconfig(server: str, **user: Any) -> dict[str, Any]:
    """Return a kubeconfig with one context; `user` replaces the token."""
    return {
        "current-context": "t",
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "clusters": [{"name": "t", "cluster": {"server": server}}],
        "users": [{"name": "t", "user": user or {"token": "secret"}}],
    }
