"""The OpenAPI document: types of bodies and answers, errors, and examples, for /docs and for generated clients.

FastAPI cannot derive them, because routes read and write bytes. A route states its types in one line:

    router.add_api_route("/why", self.why, methods=["GET"], **described(WhyAnswer, errors=(400, 404, 503)))

A type is anything that `msgspec.json.schema` takes, such as a Struct, a TypedDict or a list of them. `documented` puts the schemas of all
routes into the document's components. tests/web/test_openapi_surface.py tests every route of the document with generated requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path
from fastapi.openapi.utils import get_openapi

from extender.web import wire
from extender.web.answer_types.verb_types import ExtenderArgs

ERRORS = {
    400: "The request is wrong: the error says what, where, and a remedy.",
    401: "The request has no valid token.",
    403: "The token does not allow this.",
    404: "There is no object of that name: the error has similar names.",
    409: "What is known of the object does not allow an answer: the error says what is missing.",
    413: "The request or its answer is too large.",
    422: "A parameter is out of its bounds or of another type.",
    503: "Not now: the cluster is not listed yet, or other questions are being answered.",
}
"""Status -> what it means. The body of each is an `ErrorAnswer`."""

NodeNameParameter = Annotated[str, Path(min_length=1, max_length=253, description="name of the node")]
"""The type of a path's parameter that names a node."""

_SCHEMAS = "x-fabricwise-schemas"
"""Key of an operation that holds the schemas it refers to, until `documented` moves them to the components."""
_REFERENCE = "#/components/schemas/{name}"


class ErrorAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a request is not answered, in one sentence with a remedy."""

    error: str


def described(
    answer: Any,
    *,
    errors: Iterable[int] = (),
    body: Any = None,
    example: Mapping[str, Any] | None = None,
    media_type: str = "application/json",
) -> dict[str, Any]:
    """Return the arguments of `add_api_route` that describe a route.

    `answer`: the type of the answer of status 200; several types: one of them; None: it is no JSON, and `media_type` says what it is.
    `errors`: the statuses of `ERRORS` that the route answers with; `documented` adds 422 where there are parameters.
    `body`: the type of the JSON body, or several types; `example`: an example of it.
    """
    answers = () if answer is None else answer if isinstance(answer, tuple) else (answer,)
    bodies = () if body is None else body if isinstance(body, tuple) else (body,)
    schemas, components = msgspec.json.schema_components((*answers, *bodies, ErrorAnswer), ref_template=_REFERENCE)
    of_answers, of_body, of_error = schemas[: len(answers)], schemas[len(answers) : -1], schemas[-1]
    shown = _one_of(of_answers) if of_answers else {"type": "string"}
    responses: dict[int, dict[str, Any]] = {200: {"description": _first_line(answer), "content": {media_type: {"schema": shown}}}}
    for status in sorted(set(errors)):
        responses[status] = {"description": ERRORS[status], "content": {"application/json": {"schema": of_error}}}
    extra: dict[str, Any] = {_SCHEMAS: components}
    if of_body:
        content = {"schema": _one_of(of_body)} | ({} if example is None else {"example": example})
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    return {"responses": responses, "openapi_extra": extra}


def _one_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _first_line(answer: Any) -> str:
    """Return the first line of a type's docstring."""
    is_own = isinstance(answer, type) and issubclass(answer, msgspec.Struct)
    return ((answer.__doc__ if is_own else None) or "The answer.").strip().splitlines()[0]


def documented(app: FastAPI) -> FastAPI:
    """Return the application, whose OpenAPI document has the schemas of all routes. Call it after the routes are included."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_components(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app


def _with_components(document: dict[str, Any]) -> dict[str, Any]:
    """Move the schemas of all operations to the components, and describe the error of parameters that are out of their bounds.

    Raises ValueError for two different schemas of one name.
    """
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which `error_of` replaces
        schemas.pop(name, None)
    (error,), components = msgspec.json.schema_components((ErrorAnswer,), ref_template=_REFERENCE)
    schemas |= components
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if operation.get("parameters"):
                operation["responses"]["422"] = {"description": ERRORS[422], "content": {"application/json": {"schema": error}}}
            content = operation["responses"].get("200", {}).get("content", {})
            if len(content) > 1 and content.get("application/json") == {"schema": {}}:  # FastAPI's guess, beside another type
                del content["application/json"]
            for name, schema in operation.pop(_SCHEMAS, {}).items():
                if schemas.setdefault(name, schema) != schema:
                    raise ValueError(f"{path}: another type is called {name} already: rename one of them")
    return document


def error_of(problems: Sequence[Mapping[str, Any]]) -> str:
    """Return FastAPI's problems with the parameters of a request as one sentence."""
    parts = (f"{'.'.join(str(part) for part in problem.get('loc', ()))}: {problem.get('msg')}" for problem in problems)
    return f"{'; '.join(parts)[:1000]}; /docs has every parameter with its bounds: correct it"


_POD = {
    "metadata": {"name": "llm", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]},
}
NODES_EXAMPLE = {"Pod": _POD, "NodeNames": ["gpu-a", "gpu-b"]}
FILTER = described(wire.ExtenderFilterResult, body=ExtenderArgs, example=NODES_EXAMPLE)
PRIORITIZE = described(list[wire.HostPriority], body=ExtenderArgs, example=NODES_EXAMPLE)
PREEMPT = described(
    wire.ExtenderPreemptionResult,
    body=wire.ExtenderPreemptionArgs,
    example={"Pod": _POD, "NodeNameToMetaVictims": {"gpu-a": {"Pods": [{"UID": "2"}], "NumPDBViolations": 0}}},
)
BIND = described(
    wire.ExtenderBindingResult,
    body=wire.ExtenderBindingArgs,
    example={"PodName": "llm", "PodNamespace": "default", "PodUID": "1", "Node": "gpu-a"},
)


class Manifest(msgspec.Struct, frozen=True):
    """A Pod, or a workload with pod templates (Deployment, LeaderWorkerSet, JobSet ...), as JSON or YAML."""

    spec: dict[str, Any] | None
    kind: str = "Pod"
    apiVersion: str = "v1"  # noqa: N815 - as in Kubernetes
    metadata: dict[str, Any] = {}


POD_EXAMPLE = {"apiVersion": "v1", "kind": "Pod", **_POD}
