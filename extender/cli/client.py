"""Requests to a running extender at a URL, for the commands with `--server`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from extender.command_header import COMMAND_HEADERS
from extender.errors import ClusterSourceError

ANSWER_SECONDS = 60.0
MOST_TOKEN_BYTES = 64 << 10


def ask(
    server: str,
    path: str,
    field: str | None = None,
    body: Any = None,
    *,
    query: dict[str, str] | None = None,
    token_file: Path | None = None,
) -> dict[str, Any]:
    """Return the JSON object at a path, which must have `field` if one is given; with a body, the request is a POST.

    Raises ClusterSourceError with the server's answer.
    """
    url = f"{server.rstrip('/')}{path}"
    headers = COMMAND_HEADERS | ({} if token_file is None else {"Authorization": f"Bearer {token_of(token_file)}"})
    try:
        if body is None:
            response = httpx.get(url, params=query, headers=headers, timeout=ANSWER_SECONDS)
        else:
            response = httpx.post(url, params=query, headers=headers, json=body, timeout=ANSWER_SECONDS)
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClusterSourceError(
            f"{server}: {str(error).rstrip('.') or type(error).__name__}. Check the address, and that `fabricwise serve` runs there "
            "(`kubectl port-forward` makes a pod's port local)"
        ) from error
    except ValueError as error:
        raise ClusterSourceError(
            f"{server} answered {response.status_code} with something other than JSON: give only the address of `fabricwise serve`"
        ) from error
    if response.status_code != 200 or not isinstance(answer, dict) or (field is not None and field not in answer):
        detail = answer.get("error", answer) if isinstance(answer, dict) else answer
        remedy = "" if isinstance(answer, dict) and "error" in answer else ". Give the address of `fabricwise serve`, of the same version"
        raise ClusterSourceError(f"{server} answered {response.status_code}: {str(detail)[:500]}{remedy}")
    return answer


def token_of(path: Path) -> str:
    """Return the bearer token in a file. Raises ClusterSourceError if it cannot be read or is no token."""
    try:
        with path.open("rb") as file:
            token = file.read(MOST_TOKEN_BYTES + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterSourceError(f"--token-file {path}: {error}; name a file that holds only the token") from error
    if not token or len(token) > MOST_TOKEN_BYTES or not token.isprintable() or " " in token:
        raise ClusterSourceError(f"--token-file {path} holds no token; name a file that holds only the token")
    return token
