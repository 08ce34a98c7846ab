"""The schemas and examples of bodies for /docs. FastAPI cannot derive them: `wire` decodes the bytes, and msgspec encodes answers."""

from __future__ import annotations

from typing import Any

import msgspec


def _body(title: str, required: list[str], example: dict[str, object]) -> dict[str, object]:
    schema = {"type": "object", "title": title, "required": required}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


_POD = {
    "metadata": {"name": "llm", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]},
}
NODES = _body("ExtenderArgs", ["Pod"], {"Pod": _POD, "NodeNames": ["gpu-a", "gpu-b"]})
PREEMPT = _body(
    "ExtenderPreemptionArgs",
    ["Pod"],
    {"Pod": _POD, "NodeNameToMetaVictims": {"gpu-a": {"Pods": [{"UID": "2"}], "NumPDBViolations": 0}}},
)
BIND = _body(
    "ExtenderBindingArgs",
    ["PodName", "PodNamespace", "PodUID", "Node"],
    {"PodName": "llm", "PodNamespace": "default", "PodUID": "1", "Node": "gpu-a"},
)

ERROR: dict[str, Any] = {
    "description": "why there is no answer, and what helps",
    "content": {
        "application/json": {"schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}},
    },
}
"""The answer to a question that cannot be answered."""


def answers(answer: Any, *errors: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route: `answer`, a type that msgspec encodes, and the statuses of errors."""
    schema = _inlined(msgspec.json.schema(answer))
    found = {"description": str(schema.pop("description", "the answer")), "content": {"application/json": {"schema": schema}}}
    return {200: found, **dict.fromkeys(errors, ERROR)}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without references: a part of a document cannot refer to its own `$defs`. The types must not be recursive."""
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if isinstance(reference := part.get("$ref"), str):
            return resolved(definitions[reference.rpartition("/")[2]])
        return {key: resolved(each) for key, each in part.items() if key != "$defs"}

    result: dict[str, Any] = resolved(schema)
    return result
