"""A query parameter that a route does not have is refused: the answer would else be one to another question."""

from __future__ import annotations

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

MOST_NAME = 100
"""Characters of an unknown parameter that an error repeats."""


def refuse_unknown_parameters(request: Request) -> None:
    """Raise RequestValidationError for the first query parameter that the route of the request does not have."""
    route = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params] if isinstance(route, APIRoute) else []
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None:
        message = f"no parameter of this route, which has {', '.join(known) or 'none'}"
        raise RequestValidationError([{"loc": ("query", unknown[:MOST_NAME]), "msg": message}])


ONLY_KNOWN_PARAMETERS = [Depends(refuse_unknown_parameters)]
"""The `dependencies` of a route that has no further query parameters."""
