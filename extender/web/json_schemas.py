"""The schemas of answers for OpenAPI, from the types that encode them."""

from __future__ import annotations

from typing import Any

import msgspec

_PREFIX = "#/$defs/"


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Why there is no answer, for people: what, where, and a remedy."""

    error: str


def schema_of(answer: type) -> dict[str, Any]:
    """Return the JSON schema of a type without references, because a part of an OpenAPI document has no definitions of its own.

    The type must not contain itself.
    """
    (schema,), definitions = msgspec.json.schema_components([answer], ref_template=_PREFIX + "{name}")
    inlined: dict[str, Any] = _inlined(schema, definitions)
    return inlined


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str):
        return _inlined(definitions[reference.removeprefix(_PREFIX)], definitions)
    return {key: _inlined(value, definitions) for key, value in part.items()}


def answers(answer: type, *errors: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: 200 with the type, and each status of `errors` with `ErrorAnswer`."""
    of_error = {"description": "No answer, and why", "content": {"application/json": {"schema": schema_of(ErrorAnswer)}}}
    found = {"description": (answer.__doc__ or "").splitlines()[0], "content": {"application/json": {"schema": schema_of(answer)}}}
    return {200: found, **dict.fromkeys(errors, of_error)}
