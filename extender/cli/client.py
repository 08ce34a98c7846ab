"""Asking a running extender over HTTP, for the commands that take `--server`."""

from __future__ import annotations

from typing import Any

import httpx

from extender.errors import ClusterSourceError


def ask(server: str, path: str, field: str, body: Any = None) -> dict[str, Any]:
    """The JSON object at a path, which has `field`; with a body it is posted. Raises ClusterSourceError saying what the server did."""
    url = f"{server.rstrip('/')}{path}"
    try:
        response = httpx.get(url, timeout=60) if body is None else httpx.post(url, json=body, timeout=60)
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClusterSourceError(
            f"{server}: {error or type(error).__name__}. Check the address, and that `fabricwise serve` runs there "
            "(`kubectl port-forward` makes a pod's port local)"
        ) from error
    except ValueError as error:
        raise ClusterSourceError(
            f"{server} answered {response.status_code} with something that is not JSON: give `fabricwise serve`'s address alone"
        ) from error
    if response.status_code != 200 or not isinstance(answer, dict) or field not in answer:
        detail = answer.get("error", answer) if isinstance(answer, dict) else answer
        remedy = "" if isinstance(answer, dict) and "error" in answer else ". Give the address of `fabricwise serve`, of the same version"
        raise ClusterSourceError(f"{server} answered {response.status_code}: {str(detail)[:500]}{remedy}")
    return answer
