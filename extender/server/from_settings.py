"""The settings in the form that the pure parts take: policy, ranker, tuning of telemetry, defaults of nodes, rules of scrape targets."""

from __future__ import annotations

from contextlib import AbstractContextManager

import msgspec

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
    """What verdicts depend on, out of the settings."""
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
    """How telemetry is smoothed and when it is too old, out of the settings."""
    said = settings.telemetry
    return Tuning(
        said.half_life_seconds,
        said.jump_share,
        said.hold_share,
        said.restless_seconds,
        said.quiet_seconds,
        said.max_age_seconds,
        said.fatal_xids,
    )


def ranker(scoring: Scoring, lock: AbstractContextManager[object] | None = None) -> Ranker:
    """A ranker by the settings' weights and neutral values; without a lock it serves one thread alone."""
    weights = msgspec.structs.asdict(scoring.weights)
    return Ranker(weights, scoring.unknown_topology_value, scoring.unknown_memory_value, scoring.unknown_telemetry_value, lock)


def node_defaults(settings: Settings) -> NodeDefaults:
    """What the settings take for granted of nodes."""
    nodes = settings.nodes
    return NodeDefaults(
        Kubelet(TopologyManager(nodes.topology_manager), DevicePlugin(nodes.device_plugin)),
        nodes.assume_from_product,
        nodes.max_status_age_seconds,
        tuning(settings),
        target_rules(settings),
    )


def target_rules(settings: Settings) -> TargetRules:
    """What is scraped, out of the settings. Raises SettingsError naming a selector that is none."""
    said = settings.telemetry
    if said.source == "off":
        return NO_TARGETS
    try:
        dcgm = tuple(selector(text) for text in said.dcgm.selectors)
        engines = tuple(selector(text) for text in said.engines.selectors)
    except ValueError as error:
        raise SettingsError(
            f"settings: telemetry.dcgm.selectors or telemetry.engines.selectors: {error}; config/extender.yaml is an example"
        ) from error
    own = said.engines
    return TargetRules(dcgm, said.dcgm.port, said.dcgm.path, own.enabled, engines if own.enabled else (), own.port, own.path)
