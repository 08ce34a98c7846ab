"""The HTTP applications of one extender: the debug API with the web UI, for people; the verbs, health and metrics, for programs."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from extender.collectors.feed import TelemetryFeed
from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.scorers import Ranker
from extender.errors import SettingsError
from extender.scheduling.ports import Cluster, telemetry_off
from extender.scheduling.scheduling_service import SchedulingService
from extender.server.from_settings import decider, decision_settings, own_context, policy
from extender.server.own_names import own_names
from extender.server.program_version import program_version
from extender.settings import Settings
from extender.web.access.host_check import AllowedNames, HostCheck
from extender.web.access.security_headers import SecurityHeaders
from extender.web.access.token_gate import TokenGate
from extender.web.debug_api import DebugApi
from extender.web.live.cluster_feed import ClusterFeed
from extender.web.live.live_routes import LiveApi
from extender.web.long_work import LongWork
from extender.web.openapi import documented, error_of
from extender.web.questions.decision_routes import DecisionRoutes
from extender.web.questions.defrag_routes import DefragApi
from extender.web.questions.explain_routes import ExplainApi
from extender.web.questions.pod_routes import PodRoutes
from extender.web.questions.slots_routes import SlotsApi
from extender.web.questions.snapshot_routes import SnapshotRoutes
from extender.web.questions.what_if_routes import WhatIfApi
from extender.web.questions.why_routes import WhyApi
from extender.web.ui_files import UiFiles


def debug_routers(
    scheduling: SchedulingService,
    settings: Settings,
    cluster: Cluster,
    feed: ClusterFeed,
    long_work: LongWork,
    telemetry: TelemetryFeed | None,
) -> tuple[APIRouter, ...]:
    """Return the routes of the debug API. All long questions are answered by `long_work`."""

    def own() -> tuple[EvaluationContext, Ranker]:
        return own_context(settings, scheduling.size_mix)

    return (
        DebugApi(scheduling, settings, cluster=cluster.name, telemetry=telemetry.status if telemetry else telemetry_off).router(),
        LiveApi(feed, scheduling, settings).router(),
        PodRoutes(feed.pods, scheduling.log.outcome).router(),
        DecisionRoutes(scheduling, settings).router(),
        ExplainApi(scheduling, settings, long_work, own, cluster=cluster.name).router(),
        SnapshotRoutes(scheduling, long_work, decision_settings(settings), program_version()).router(),
        SlotsApi(scheduling, settings.resource, policy(settings), long_work, cluster=cluster.name).router(),
        DefragApi(scheduling, settings, policy(settings), own, long_work, cluster.disruptions, cluster=cluster.name).router(),
        WhatIfApi(
            scheduling, settings, long_work, lambda then: decider(then, scheduling.size_mix), cluster.pending, cluster=cluster.name
        ).router(),
        WhyApi(scheduling, settings, long_work, own, cluster.disruptions, cluster=cluster.name).router(),
    )


def for_browsers(settings: Settings, cluster: Cluster, *routers: APIRouter) -> ASGIApp:
    """Return an application with these routes, their description and the web UI, for people and their browsers.

    `Host` is checked only without tokens: a page of another origin has no token, and an ingress with tokens needs no list of names.
    Raises SettingsError where tokens are to be checked and no API server is there.
    """
    app = _application(*routers)
    app.mount("/", UiFiles())
    auth = settings.server.debug_auth
    if auth.mode == "none":
        return SecurityHeaders(HostCheck(app, AllowedNames((*settings.server.debug_hosts, *own_names()))))
    if cluster.reviews is None:
        raise SettingsError("settings: server.debug_auth.mode is kubernetes, but no API server is watched that could check tokens")
    return SecurityHeaders(TokenGate(app, cluster.reviews, auth.kept_seconds))


def _application(*routers: APIRouter) -> FastAPI:
    app = FastAPIOffline(
        title="Fabricwise",
        description="GPU-aware scheduler extender: places pods by link bandwidth and says why.",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # without this, the page sends the document to swagger.io
    )
    for router in routers:
        app.include_router(router)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return JSONResponse({"error": error_of(error.errors())}, 422)

    return documented(app)


def plain_application(*routers: APIRouter) -> FastAPI:
    """Return an application for programs: without a description of its routes."""
    app = FastAPI(title="Fabricwise", openapi_url=None)
    for router in routers:
        app.include_router(router)
    return app
