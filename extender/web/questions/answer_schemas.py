"""The JSON schemas of typed answers, for OpenAPI."""

from __future__ import annotations

from typing import Any

import msgspec

_REFERENCE = "#/$defs/"


def responses_of(answer: type[msgspec.Struct], **others: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with this type. `others`: s404="why" of further statuses with an `error`."""
    error = {"application/json": {"schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}}}
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The answer", "content": {"application/json": {"schema": schema_of(answer)}}}
    }
    for status, why in others.items():
        responses[int(status.removeprefix("s"))] = {"description": why, "content": error}
    return responses


def schema_of(answer: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema of a type that does not contain itself, without references."""
    schema = msgspec.json.schema(answer)
    definitions = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(schema, definitions)
    return inlined


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].removeprefix(_REFERENCE)], definitions)
    return {key: _inlined(value, definitions) for key, value in part.items()}
