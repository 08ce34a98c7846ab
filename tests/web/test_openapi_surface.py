"""Every route of the OpenAPI document, with generated requests: no internal error, and each answer is as the document describes it.

A new route is tested as soon as it is part of the application that `build_service` makes.
"""

from __future__ import annotations

from functools import cache

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from extender.server.service import build_service
from extender.settings import Settings
from extender.sources.simulated import simulated

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 25
"""Requests per route and kind of request."""


@cache
def schema() -> BaseSchema:
    """Return the document of an application over the simulated cluster."""
    service = build_service(Settings())
    service.store.apply(simulated(service.settings.resource).listing())
    return schemathesis.openapi.from_asgi("/openapi.json", service.app)


ROUTES = [(path, method) for path, methods in schema().items() for method in methods]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[1]} {route[0]}")
def test_every_route_answers_as_its_document_says(route: tuple[str, str], mode: GenerationMode) -> None:
    path, method = route

    @given(case=schema()[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def answers(case: Case) -> None:
        case.call_and_validate(checks=CHECKS)

    answers()
