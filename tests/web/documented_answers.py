"""The OpenAPI document of the extender, and the check that an answer is as the document describes it."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx

from extender.server.service import build_service
from extender.settings import Settings
from extender.sources.simulated import simulated
from tests.objects import GPU

SIMULATED = simulated(GPU)


@cache
def document() -> Any:
    """Return the document of an application over the simulated cluster, as schemathesis has it."""
    import schemathesis  # only here: tests that ask no debug route do not load it

    service = build_service(Settings())
    service.store.apply(SIMULATED.listing())
    return schemathesis.openapi.from_asgi("/openapi.json", service.app)


def assert_documented(response: httpx.Response) -> None:
    """Fail if the answer of a debug route is not of the type that the document states for its status.

    Tests of other servers, of requests to unknown paths and of the verbs are not concerned.
    """
    path, method = response.request.url.path, response.request.method
    if not path.startswith("/v1/") or "event-stream" in response.headers.get("content-type", ""):
        return
    operation = document().find_operation_by_path(method, path)
    if operation is not None:
        response.read()
        operation.validate_response(response)
