"""JSON schemas of msgspec types without references, so that a route can carry its schema by itself."""

from __future__ import annotations

from typing import Any

import msgspec

_PREFIX = "#/$defs/"


def inlined_schema(of: Any) -> dict[str, Any]:
    """Return the JSON schema of a type that does not contain itself, with every reference replaced by what it refers to."""
    schema = msgspec.json.schema(of)
    definitions = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(schema, definitions)
    return inlined


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith(_PREFIX):
        return _inlined(definitions[reference.removeprefix(_PREFIX)], definitions)
    return {key: _inlined(value, definitions) for key, value in part.items()}


def body_of(of: Any) -> dict[str, Any]:
    """Return what `openapi_extra` needs for a JSON body of a type."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined_schema(of)}}}}


def response_of(of: Any, description: str) -> dict[str, Any]:
    """Return an entry of `responses` for a JSON answer of a type."""
    return {"description": description, "content": {"application/json": {"schema": inlined_schema(of)}}}
