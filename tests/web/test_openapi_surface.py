"""Every route of the OpenAPI document, with generated requests: no internal error, and each answer is as the document describes it.

A new route is tested as soon as it is part of the application that `build_service` makes: nothing is to be added here.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from extender.web.answer_types.node_types import AssumedPodsAnswer
from extender.web.openapi import described, documented
from tests.conftest import Served
from tests.objects import GPU, pod
from tests.web.documented_answers import SIMULATED, assert_documented, document

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 15
"""Requests per route and kind of request."""
ENDLESS = "text/event-stream"
"""Content of answers that do not end: their routes have tests of their own."""
NAMES = ("name", "node")
"""Parameters that are names of nodes."""


def kinds_of_requests() -> dict[str, tuple[str, str, GenerationMode]]:
    """Return name -> (path, method, valid or invalid requests). A route without parameters and body has no invalid requests."""
    kinds: dict[str, tuple[str, str, GenerationMode]] = {}
    for path, operations in document().raw_schema["paths"].items():
        for method, operation in operations.items():
            if any(ENDLESS in response.get("content", {}) for response in operation["responses"].values()):
                continue
            for mode in GenerationMode:
                if mode is GenerationMode.POSITIVE or operation.get("parameters") or operation.get("requestBody"):
                    kinds[f"{method} {path} {mode.value}"] = (path, method, mode)
    return kinds


KINDS = kinds_of_requests()


def known(case: Case[Any], node: str, gpus: str) -> Case[Any]:
    """Return the case with the name of a node that exists, and with a GPU request in the pod's first container."""
    for parameters in (case.path_parameters, case.query):
        for name in NAMES:
            if isinstance(parameters, dict) and name in parameters:
                parameters[name] = node
    body: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
    if "NodeNames" in body:
        body["NodeNames"] = [node, "unknown"]
    pod = body.get("Pod", body)
    containers = pod.get("spec", {}).get("containers") if isinstance(pod, dict) and isinstance(pod.get("spec"), dict) else None
    if isinstance(containers, list) and containers and isinstance(containers[0], dict):
        containers[0]["resources"] = {"limits": {GPU: gpus}}
    return case


@pytest.mark.parametrize("kind", KINDS)
def test_every_route_answers_as_its_document_says(kind: str) -> None:
    path, method, mode = KINDS[kind]
    strategy: st.SearchStrategy[Any] = document()[path][method].as_strategy(generation_mode=mode)
    if mode is GenerationMode.POSITIVE:
        nodes, quantities = st.sampled_from(sorted(SIMULATED.machines)), st.sampled_from(("1", "2", "4", "8", "0", "-1", "1k", "0.5"))
        strategy = st.one_of(strategy, st.builds(known, strategy, nodes, quantities))

    @given(case=strategy)
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def answers(case: Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS)

    answers()


UNDOCUMENTED: dict[str, tuple[dict[str, Any], int]] = {
    "an unknown field": ({"assumed_pods": [], "further": 1}, 200),
    "a missing field": ({}, 200),
    "another type": ({"assumed_pods": None}, 200),
    "an internal error": ({"error": "x"}, 500),
    "a status that is not described": ({"error": "x"}, 409),
}


@pytest.mark.parametrize("case", UNDOCUMENTED)
def test_answer_that_is_not_as_the_document_says_fails_the_check(case: str) -> None:
    content, status = UNDOCUMENTED[case]
    app = FastAPI()
    app.add_api_route("/x", lambda: JSONResponse(content, status), methods=["GET"], **described(AssumedPodsAnswer))
    wrong = schemathesis.openapi.from_asgi("/openapi.json", documented(app))["/x"]["get"].Case()
    with pytest.raises(FailureGroup):
        wrong.call_and_validate(checks=CHECKS)


def test_every_debug_route_is_as_documented_for_every_node(served: Served) -> None:
    """Nodes that schemathesis does not think of: all of the simulated cluster, with pods, assumed pods and refusals."""
    served.cluster.bind(pod(2, name="bound"), "hgx-h100-0", served.service.store)
    served.client.post("/scheduler/prioritize", json={"Pod": pod(2, name="assumed"), "NodeNames": list(served.cluster.machines)})
    paths = ["/v1/nodes", "/v1/reports", "/v1/assumed-pods", "/v1/telemetry", "/v1/decisions", "/v1/nodes/nowhere", "/v1/decisions?limit=0"]
    paths += [f"/v1/nodes/{name}{page}" for name in served.cluster.machines for page in ("", "/report")]
    for path in paths:
        assert_documented(served.client.get(path))
    for manifest in (pod(2), pod(), pod(99), {"kind": "Service", "spec": {}}):
        assert_documented(served.client.post("/v1/explain", json=manifest))


def test_error_of_a_parameter_out_of_its_bounds_names_it_and_has_the_common_form(served: Served) -> None:
    answer = served.client.get("/v1/decisions", params={"limit": "0"})
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert "query.limit: Input should be greater than or equal to 1" in answer.json()["error"]


def test_parameters_are_bounded() -> None:
    """A string has a greatest length or is one of some values, a number has a least and a greatest value."""
    unbounded = []
    for path, operations in document().raw_schema["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                stated = parameter["schema"]
                for option in stated.get("anyOf", [stated]):
                    bounded = {"string": ("maxLength", "enum", "pattern", "const"), "integer": ("maximum",), "number": ("maximum",)}
                    needed = bounded.get(option.get("type", ""), ())
                    if needed and not any(word in option for word in needed):
                        unbounded.append(f"{method} {path} {parameter['name']}")
    assert unbounded == []


def test_every_debug_route_states_its_answer_and_its_errors() -> None:
    for path, operations in document().raw_schema["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                assert operation["responses"]["200"]["content"], f"{method} {path}: use extender.web.openapi.described"
                answers = operation["responses"]["200"]["content"]
                assert "application/json" not in answers or answers["application/json"].get("schema"), f"{method} {path}"
                for status, response in operation["responses"].items():
                    if status != "200":
                        (content,) = response["content"].values()
                        assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}, f"{method} {path} {status}"
