"""The settings in the form that the pure parts take: policy, ranker, tuning of telemetry, defaults of nodes, rules of scrape targets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import msgspec

from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.scorers import Ranker
from extender.decision.node.node_state import NodeDefaults
from extender.decision.node.scrape_targets import NO_TARGETS, TargetRules, selector
from extender.decision.whatif.sequence import Decider
from extender.errors import SettingsError
from extender.settings import Scoring, Settings, Telemetry
from extender.telemetry.conditions import Tuning
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin, Kubelet


def policy(settings: Settings) -> Policy:
    """Return what verdicts depend on."""
    scoring, filtering = settings.scoring, settings.filtering
    return Policy(
        scoring.size_mix,
        scoring.messages,
        filtering.refuse_hazards,
        filtering.tolerated_chance,
        filtering.usable_memory_share,
        1.0 - scoring.unknown_telemetry_value,
        filtering.enforce_inferred,
        frozenset(filtering.telemetry_required_for),
    )


def own_context(settings: Settings, size_mix: Mapping[int, float] | None = None) -> tuple[EvaluationContext, Ranker]:
    """Return what evaluates and ranks for one question, with caches of its own, for one thread.

    `size_mix`: the mix of sizes that a running extender has learnt; it counts where the settings have none.
    """
    by_settings = policy(settings)
    if by_settings.size_mix is None and size_mix is not None:
        by_settings = replace(by_settings, size_mix=size_mix)
    return EvaluationContext(Evaluator(by_settings), settings.resource, node_defaults(settings)), ranker(settings.scoring)


def decider(settings: Settings, size_mix: Mapping[int, float] | None = None) -> Decider:
    """Return what decides by these settings: `own_context`, as a sequence takes it."""
    context, ranks = own_context(settings, size_mix)
    return Decider(context.evaluator, ranks, context.resource, context.defaults)


def decision_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that decisions read, as plain data; `Settings` can be read from it. No address, file or name of a secret."""
    telemetry = {name: getattr(settings.telemetry, name) for name in _TUNING}
    read = Settings(
        resource=settings.resource,
        scoring=settings.scoring,
        filtering=settings.filtering,
        nodes=settings.nodes,
        assumed_pods=settings.assumed_pods,
        telemetry=Telemetry(source="off", **telemetry),
    )
    names = ("resource", "scoring", "filtering", "nodes", "assumed_pods", "telemetry")
    plain: dict[str, Any] = msgspec.to_builtins({name: getattr(read, name) for name in names}, str_keys=True)
    plain["telemetry"] = {name: value for name, value in plain["telemetry"].items() if name in (*_TUNING, "source")}
    return plain


_TUNING = ("half_life_seconds", "jump_share", "hold_share", "restless_seconds", "quiet_seconds", "max_age_seconds", "fatal_xids")


def tuning(settings: Settings) -> Tuning:
    """Return how telemetry is smoothed, and when it is too old."""
    telemetry = settings.telemetry
    return Tuning(
        telemetry.half_life_seconds,
        telemetry.jump_share,
        telemetry.hold_share,
        telemetry.restless_seconds,
        telemetry.quiet_seconds,
        telemetry.max_age_seconds,
        telemetry.fatal_xids,
    )


def ranker(scoring: Scoring, lock: AbstractContextManager[object] | None = None) -> Ranker:
    """Return a ranker with the settings' weights and neutral values; without a lock it is not thread-safe."""
    weights = msgspec.structs.asdict(scoring.weights)
    return Ranker(weights, scoring.unknown_topology_value, scoring.unknown_memory_value, scoring.unknown_telemetry_value, lock)


def node_defaults(settings: Settings) -> NodeDefaults:
    """Return what is assumed of nodes that do not say otherwise."""
    nodes = settings.nodes
    return NodeDefaults(
        Kubelet(TopologyManager(nodes.topology_manager), DevicePlugin(nodes.device_plugin)),
        nodes.assume_from_product,
        nodes.max_status_age_seconds,
        tuning(settings),
        target_rules(settings),
    )


def target_rules(settings: Settings) -> TargetRules:
    """Return what is scraped. Raises SettingsError naming an invalid selector."""
    telemetry = settings.telemetry
    if telemetry.source == "off":
        return NO_TARGETS
    try:
        dcgm = tuple(selector(text) for text in telemetry.dcgm.selectors)
        engines = tuple(selector(text) for text in telemetry.engines.selectors)
    except ValueError as error:
        raise SettingsError(
            f"settings: telemetry.dcgm.selectors or telemetry.engines.selectors: {error}; config/extender.yaml is an example"
        ) from error
    engine_settings = telemetry.engines
    return TargetRules(
        dcgm,
        telemetry.dcgm.port,
        telemetry.dcgm.path,
        engine_settings.enabled,
        engines if engine_settings.enabled else (),
        engine_settings.port,
        engine_settings.path,
    )
