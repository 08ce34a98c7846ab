"""The known objects of resource.k8s.io, with what is derived from them per node, in persistent maps: a change costs what it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from immutables import Map

from extender.decision.dra.held_devices import HeldDevices, held_devices, pools_of
from extender.decision.dra.inventory import NO_DEVICES, NodeDevices, node_devices
from extender.decision.dra.resource_objects import (
    DeviceClass,
    DeviceTaintRule,
    DraObject,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from extender.decision.tables import Table

EMPTY: Mapping[Any, Any] = Map()

IMPLICIT_PREFIX = "deviceclass.resource.kubernetes.io/"
"""Prefix of the extended resource that every class has. Source: k8s.io/api v0.36.3 `resource/v1/types.go` (ResourceDeviceClassPrefix)."""

DRA_KINDS = ("resourceslices", "deviceclasses", "resourceclaims", "resourceclaimtemplates", "devicetaintrules")


@dataclass(frozen=True, slots=True)
class DraObjectSeen:
    """An object of resource.k8s.io was listed, added or modified."""

    kind: str
    """One of `DRA_KINDS`."""
    key: str
    """namespace/name, or name."""
    item: DraObject
    version: int | None = None


@dataclass(frozen=True, slots=True)
class DraObjectGone:
    """An object of resource.k8s.io was deleted."""

    kind: str
    key: str
    version: int | None = None


@dataclass(frozen=True)
class DraState:
    """The objects and what is derived from them at one moment. Immutable by convention: only `DraDraft` makes new ones."""

    resourceslices: Mapping[str, ResourceSlice] = field(default_factory=lambda: EMPTY)
    deviceclasses: Mapping[str, DeviceClass] = field(default_factory=lambda: EMPTY)
    resourceclaims: Mapping[str, ResourceClaim] = field(default_factory=lambda: EMPTY)
    resourceclaimtemplates: Mapping[str, ResourceClaimTemplate] = field(default_factory=lambda: EMPTY)
    devicetaintrules: Mapping[str, DeviceTaintRule] = field(default_factory=lambda: EMPTY)
    slices_of: Mapping[str, frozenset[str]] = field(default_factory=lambda: EMPTY)
    """Node -> names of its slices."""
    claims_of: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=lambda: EMPTY)
    """(driver, pool) -> keys of the claims that hold devices of it."""
    nodes_of: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=lambda: EMPTY)
    """(driver, pool) -> nodes that slices of it name."""
    inventories: Mapping[str, NodeDevices] = field(default_factory=lambda: EMPTY)
    """Node -> its devices."""
    holders: Mapping[str, frozenset[str]] = field(default_factory=lambda: EMPTY)
    """Uid of a pod -> keys of the allocated claims that are reserved for it."""
    watched: Mapping[str, bool] = field(default_factory=lambda: EMPTY)
    """Kind -> whether an API server serves it, so that its events follow its list."""

    def devices_of(self, node: str) -> NodeDevices:
        """Return the devices that the node's slices offer."""
        return self.inventories.get(node, NO_DEVICES)

    def held_on(self, node: str) -> tuple[HeldDevices, ...]:
        """Return what claims hold of the node's pools, in the order of the claims' keys."""
        slices = [self.resourceslices[name] for name in self.slices_of.get(node, ())]
        pools = {(each.spec.driver, each.spec.pool.name) for each in slices}
        keys = sorted({key for pool in pools for key in self.claims_of.get(pool, ())})
        return tuple(held for key in keys if (held := held_devices(self.resourceclaims[key])) is not None)

    def class_of(self, resource: str) -> DeviceClass | None:
        """Return the class that stands for an extended resource: of several the newest, of equally old ones the first by name.

        Source: k8s.io/dynamic-resource-allocation v0.36.3 `deviceclass/extendedresourcecache`.
        """
        if resource.startswith(IMPLICIT_PREFIX):
            return self.deviceclasses.get(resource.removeprefix(IMPLICIT_PREFIX))
        classes = [each for each in self.deviceclasses.values() if each.spec.extended_resource_name == resource]
        classes.sort(key=lambda each: each.metadata.name)
        return max(classes, key=lambda each: each.metadata.creation_timestamp or "", default=None)

    @property
    def mapped(self) -> frozenset[str]:
        """The extended resources that classes stand for, by `extendedResourceName`."""
        return frozenset(name for each in self.deviceclasses.values() if (name := each.spec.extended_resource_name))


NO_DRA = DraState()


class DraDraft:
    """A `DraState` that is being changed, and the nodes that a change touches."""

    def __init__(self, before: DraState) -> None:
        self._before = before
        self._tables: dict[str, Table[Any, Any]] = {}
        """The tables that changes have written, by the name of their field."""
        self.touched: set[str] = set()
        self._stale: set[str] = set()
        """Nodes whose devices must be derived anew."""
        self._after: DraState | None = before
        """The state after the changes; None where it must be made anew."""

    def _read(self, table: str) -> Mapping[Any, Any]:
        content: Mapping[Any, Any] = self._tables[table].now if table in self._tables else getattr(self._before, table)
        return content

    def _put(self, table: str, key: Any, value: Any) -> None:
        """Set the value of a key, or remove the key where `value` is None."""
        self._after = None
        if table not in self._tables:
            self._tables[table] = Table(getattr(self._before, table))
        if value is None:
            self._tables[table].pop(key)
        else:
            self._tables[table].set(key, value)

    def apply(self, change: DraObjectSeen | DraObjectGone) -> None:
        """Take over a change of one object."""
        after = change.item if isinstance(change, DraObjectSeen) else None
        before = self._read(change.kind).get(change.key)
        if before == after:
            return
        self._put(change.kind, change.key, after)
        match change.kind:
            case "resourceslices":
                self._slice(change.key, before, after)
            case "resourceclaims":
                self._claim(change.key, before, after)
            case "deviceclasses":
                self.touched |= set(self._read("slices_of"))
            case "devicetaintrules":
                self._stale |= set(self._read("slices_of"))
            case _:
                pass  # a template alone holds nothing

    def relist(self, kind: str, changes: Iterable[DraObjectSeen], is_watched: bool = False) -> None:
        """Take over a list: objects that are not in it are gone. `is_watched`: an API server serves the kind, and its events follow."""
        if self._read("watched").get(kind, False) is not is_watched:
            self._put("watched", kind, is_watched)
        seen = list(changes)
        present = {change.key for change in seen}
        for key in [key for key in self._read(kind) if key not in present]:
            self.apply(DraObjectGone(kind, key))
        for change in seen:
            self.apply(change)

    def _slice(self, name: str, before: Any, after: Any) -> None:
        for version, is_present in ((before, False), (after, True)):
            if version is None or not version.spec.node_name:
                continue
            node, pool = version.spec.node_name, (version.spec.driver, version.spec.pool.name)
            self._index("slices_of", node, name, is_present)
            is_named = any(self._in_pool(other, pool) for other in self._read("slices_of").get(node, ()))
            self._index("nodes_of", pool, node, is_named)
            self._stale.add(node)

    def _in_pool(self, name: str, pool: tuple[str, str]) -> bool:
        resource_slice = self._read("resourceslices").get(name)
        return resource_slice is not None and (resource_slice.spec.driver, resource_slice.spec.pool.name) == pool

    def _claim(self, key: str, before: Any, after: Any) -> None:
        for version, is_present in ((before, False), (after, True)):
            for pool in pools_of(version):
                self._index("claims_of", pool, key, is_present)
                self.touched |= self._read("nodes_of").get(pool, frozenset())
            held = held_devices(version) if version is not None else None
            for uid, _, _ in held.pods if held is not None else ():
                self._index("holders", uid, key, is_present)

    def _index(self, table: str, key: Any, value: str, is_present: bool) -> None:
        """Put a value into the set of a key, or remove it; an empty set is removed too."""
        known: frozenset[str] = self._read(table).get(key, frozenset())
        if (value in known) is is_present:
            return
        remaining = known | {value} if is_present else known - {value}
        self._put(table, key, remaining or None)

    @property
    def is_changed(self) -> bool:
        """Whether any table has been written."""
        return bool(self._tables)

    def settled(self) -> DraState:
        """Return the state after the changes so far; `touched` names the nodes that they concern."""
        if self._after is not None and not self._stale:
            return self._after
        for node in self._stale:
            names = self._read("slices_of").get(node, frozenset())
            slices = [self._read("resourceslices")[name] for name in sorted(names)]
            self._put("inventories", node, node_devices(slices, self._rules()) if slices else None)
        self.touched |= self._stale
        self._stale = set()
        kept = {name: getattr(self._before, name) for name in self._before.__dataclass_fields__}
        self._after = DraState(**{**kept, **{name: table.now for name, table in self._tables.items()}})
        return self._after

    def _rules(self) -> list[DeviceTaintRule]:
        """Return the taint rules in the order of their names."""
        rules = self._read("devicetaintrules")
        return [rules[name] for name in sorted(rules)]
