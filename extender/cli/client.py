"""Requests to a running extender, for the commands with `--server`."""

from __future__ import annotations

from typing import Any

import httpx

from extender.errors import ClusterSourceError


def ask(server: str, path: str, field: str, body: Any = None) -> dict[str, Any]:
    """Return the JSON object at a path, which must have `field`; with a body, the request is a POST.

    Raises ClusterSourceError with the server's answer.
    """
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
            f"{server} answered {response.status_code} with something other than JSON: give only the address of `fabricwise serve`"
        ) from error
    if response.status_code != 200 or not isinstance(answer, dict) or field not in answer:
        detail = answer.get("error", answer) if isinstance(answer, dict) else answer
        remedy = "" if isinstance(answer, dict) and "error" in answer else ". Give the address of `fabricwise serve`, of the same version"
        raise ClusterSourceError(f"{server} answered {response.status_code}: {str(detail)[:500]}{remedy}")
    return answer
