"""DeviceTaintRules for devices that telemetry has excluded: which there should be, and which of ours should go. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from extender.decision.dra.inventory import DeviceId
from extender.decision.dra.resource_objects import DeviceTaintRule
from extender.decision.node.node_state import NodeView
from extender.decision.state.snapshot import Snapshot

TAINT_KEY = "fabricwise.dev/faulty"
MANAGED_BY = {"app.kubernetes.io/managed-by": "fabricwise"}
"""Label of the rules that Fabricwise writes; it never deletes others."""

MOST_RULES = 100
"""Rules at a time; further devices are not tainted. So many devices do not break at once: then the telemetry itself is likely wrong."""


@dataclass(frozen=True, slots=True)
class FaultyDevice:
    """A device of a ResourceSlice that telemetry has excluded."""

    device: DeviceId
    is_xid: bool
    """Whether a fatal XID says so; else it is uncorrectable memory errors."""

    @property
    def rule_name(self) -> str:
        """The name of its DeviceTaintRule, the same for the same device."""
        return f"fabricwise-{hashlib.sha256('/'.join(self.device).encode()).hexdigest()[:16]}"

    def manifest(self) -> dict[str, Any]:
        """Return the rule without its apiVersion. Its effect is NoSchedule: pods that use the device are not evicted."""
        driver, pool, device = self.device
        return {
            "kind": "DeviceTaintRule",
            "metadata": {"name": self.rule_name, "labels": MANAGED_BY},
            "spec": {
                "deviceSelector": {"driver": driver, "pool": pool, "device": device},
                "taint": {"key": TAINT_KEY, "value": "xid" if self.is_xid else "memory-errors", "effect": "NoSchedule"},
            },
        }


@dataclass(frozen=True, slots=True)
class TaintChanges:
    """What to write so that the rules are those that there should be."""

    create: tuple[FaultyDevice, ...] = ()
    delete: tuple[str, ...] = ()
    """Names of rules of ours."""


def taint_changes(snapshot: Snapshot) -> TaintChanges:
    """Return the rules to create and to delete.

    A rule stays while the telemetry of its node is unknown: only a device that is known to be sound again loses its taint.
    """
    faulty = [device for name in sorted(snapshot.views) for device in _faulty(snapshot.views[name])]
    wanted = {device.rule_name: device for device in faulty[:MOST_RULES]}
    own = {name: rule for name, rule in snapshot.dra.devicetaintrules.items() if _is_own(rule)}
    room = max(0, MOST_RULES - len(own))
    create = [device for name, device in wanted.items() if name not in own][:room]
    delete = [name for name, rule in sorted(own.items()) if name not in wanted and _has_recovered(rule, snapshot)]
    return TaintChanges(tuple(create), tuple(delete))


def _is_own(rule: DeviceTaintRule) -> bool:
    return MANAGED_BY.items() <= (rule.metadata.labels or {}).items()


def _faulty(view: NodeView) -> list[FaultyDevice]:
    if view.dra is None or not view.state.faults:
        return []
    by_index = {view.dra.machine.gpus[bit].index: device for device, bit in view.dra.bits.items() if bit < len(view.dra.machine.gpus)}
    return [FaultyDevice(by_index[index], is_xid) for index, _, is_xid in view.state.faults if index in by_index]


def _has_recovered(rule: DeviceTaintRule, snapshot: Snapshot) -> bool:
    """Whether the rule's device is gone, or telemetry has a reading of it without a fault."""
    selector = rule.spec.device_selector
    if selector is None:
        return True
    wanted = (selector.driver or "", selector.pool or "", selector.device or "")
    for name in sorted(snapshot.dra.nodes_of.get(wanted[:2], ())):
        view = snapshot.views.get(name)
        known = next((device for device in snapshot.dra.devices_of(name).devices if device.id == wanted), None)
        if known is None:
            continue
        telemetry = snapshot.telemetry.get(name)
        if view is None or view.dra is None or telemetry is None:
            return False
        readings = [condition for (uuid, _), condition in telemetry.devices.items() if uuid == known.uuid]
        return bool(readings) and all(condition.fault is None for condition in readings)
    return True
