"""Requests for single objects of the API server. No exception of the client leaves this module; every failure is an ApiError."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import kubernetes.client
import msgspec
import urllib3

from extender.errors import ClusterSourceError
from extender.kube.api_client import Credentials
from topology.agent.publisher import ApiError

_encode = msgspec.json.encode

Query = tuple[tuple[str, str], ...]


class ApiRequests:
    """Implements `topology.agent.publisher.Api` with a configured client. Safe for several threads.

    Every method raises ApiError with the HTTP status, 0 if there is no answer or the answer is not JSON.
    """

    def __init__(self, client: kubernetes.client.ApiClient, timeout_seconds: float = 15.0) -> None:
        self._client, self._timeout = client, urllib3.Timeout(timeout_seconds)
        self._credentials = Credentials(client.configuration)

    def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        """Return an object, or one page of a list."""
        return self._send("GET", path, query)

    def get_text(self, path: str, query: Query = ()) -> bytes:
        """Return an object, or one page of a list, as JSON that is not decoded."""
        return self._answer("GET", path, query)

    def apply(self, path: str, manifest: dict[str, Any], field_manager: str) -> dict[str, Any]:
        """Apply a manifest on the server side, forcing ownership of its fields. Returns the object."""
        query = (("fieldManager", field_manager), ("force", "true"))
        return self._send("PATCH", path, query, {"Content-Type": "application/apply-patch+yaml"}, _encode(manifest))

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Apply a JSON merge patch. Returns the object. Status 404: it does not exist; 409: another object has its name."""
        return self._send("PATCH", path, (), {"Content-Type": "application/merge-patch+json"}, _encode(patch))

    def replace(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Replace an object whose resourceVersion is that of the manifest. Returns the object. Status 409: it has changed since."""
        return self._send("PUT", path, (), {"Content-Type": "application/json"}, _encode(manifest))

    def delete(self, path: str, grace_seconds: int = 0) -> dict[str, Any]:
        """Delete an object; with 0 seconds, a pod is removed without waiting for its kubelet. Status 404: it does not exist."""
        return self._send("DELETE", path, (("gracePeriodSeconds", str(grace_seconds)),))

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create an object and return it. Status 409: it exists already."""
        return self._send("POST", path, (), {"Content-Type": "application/json"}, _encode(manifest))

    def _send(
        self, method: str, path: str, query: Query = (), headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, Any]:
        try:
            answer = msgspec.json.decode(self._answer(method, path, query, headers, body))
        except (ValueError, RecursionError) as error:
            raise ApiError(0, f"{method} {path}: the answer is not JSON") from error
        return answer if isinstance(answer, dict) else {}

    def _answer(self, method: str, path: str, query: Query = (), headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
        client = self._client
        url = client.configuration.host + path + ("?" + urlencode(query) if query else "")
        try:
            response = client.rest_client.pool_manager.request(
                method,
                url,
                body=body,
                headers={"Accept": "application/json", **(headers or {}), **self._credentials.headers()},
                timeout=self._timeout,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ClusterSourceError) as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        if response.status >= 300:
            raise ApiError(response.status, f"{method} {path}: {response.status} {_message(response.data)}")
        return response.data


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:200].decode(errors="replace")
