"""The settings in the form that the pure parts take: policy, ranker, tuning of telemetry, defaults of nodes, rules of scrape targets."""

from __future__ import annotations

from contextlib import AbstractContextManager

import msgspec

from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.scorers import Ranker
from extender.decision.node.node_state import NodeDefaults
from extender.decision.node.scrape_targets import NO_TARGETS, TargetRules, selector
from extender.errors import SettingsError
from extender.settings import Scoring, Settings
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


def own_context(settings: Settings) -> tuple[EvaluationContext, Ranker]:
    """Return what evaluates and ranks for one question, with caches of its own, for one thread."""
    return EvaluationContext(Evaluator(policy(settings)), settings.resource, node_defaults(settings)), ranker(settings.scoring)


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
