"""The objects of resource.k8s.io that are known, with what is derived from them per node; copies are made of what a change writes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

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

EMPTY: Mapping[Any, Any] = MappingProxyType({})

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
    """All of it at one moment. Immutable by convention: only `DraDraft` makes new ones."""

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
    """Kinds that an API server has listed and is being watched for."""

    def devices_of(self, node: str) -> NodeDevices:
        """The devices that the node's slices offer."""
        return self.inventories.get(node, NO_DEVICES)

    def held_on(self, node: str) -> tuple[HeldDevices, ...]:
        """What claims hold of the node's pools, in the order of the claims' keys."""
        pools = {(one.spec.driver, one.spec.pool.name) for name in self.slices_of.get(node, ()) if (one := self.resourceslices.get(name))}
        keys = sorted({key for pool in pools for key in self.claims_of.get(pool, ())})
        found = [held_devices(self.resourceclaims[key]) for key in keys]
        return tuple(one for one in found if one is not None)

    def class_of(self, resource: str) -> DeviceClass | None:
        """The class that an extended resource stands for: of several the newest, of equally old ones the first by name.

        Source: k8s.io/dynamic-resource-allocation v0.36.3 `deviceclass/extendedresourcecache`.
        """
        if resource.startswith(IMPLICIT_PREFIX):
            return self.deviceclasses.get(resource.removeprefix(IMPLICIT_PREFIX))
        found = [one for one in self.deviceclasses.values() if one.spec.extended_resource_name == resource]
        found.sort(key=lambda one: one.metadata.name)
        return max(found, key=lambda one: one.metadata.creation_timestamp or "", default=None)

    @property
    def mapped(self) -> frozenset[str]:
        """The extended resources that classes stand for by `extendedResourceName`."""
        return frozenset(name for each in self.deviceclasses.values() if (name := each.spec.extended_resource_name))


NO_DRA = DraState()


class DraDraft:
    """A `DraState` that is being changed, and the nodes that a change touches."""

    def __init__(self, before: DraState) -> None:
        self._before = before
        self._copies: dict[str, dict[Any, Any]] = {}
        self.touched: set[str] = set()
        self._stale: set[str] = set()
        """Nodes whose devices must be derived anew."""
        self._after: DraState | None = before
        """The state after the changes; None where it must be made anew."""

    def _read(self, table: str) -> Mapping[Any, Any]:
        found: Mapping[Any, Any] = self._copies[table] if table in self._copies else getattr(self._before, table)
        return found

    def _write(self, table: str) -> dict[Any, Any]:
        self._after = None
        if table not in self._copies:
            self._copies[table] = dict(getattr(self._before, table))
        return self._copies[table]

    def apply(self, change: DraObjectSeen | DraObjectGone) -> None:
        """Take over one change."""
        after = change.item if isinstance(change, DraObjectSeen) else None
        before = self._read(change.kind).get(change.key)
        if before == after:
            return
        if after is None:
            del self._write(change.kind)[change.key]
        else:
            self._write(change.kind)[change.key] = after
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
        """Take over a list: what is not in it is gone. `is_watched`: an API server serves it and its events follow."""
        if self._read("watched").get(kind, False) is not is_watched:
            self._write("watched")[kind] = is_watched
        seen = list(changes)
        present = {change.key for change in seen}
        for key in [key for key in self._read(kind) if key not in present]:
            self.apply(DraObjectGone(kind, key))
        for change in seen:
            self.apply(change)

    def _slice(self, name: str, before: Any, after: Any) -> None:
        for one, present in ((before, False), (after, True)):
            if one is None or not one.spec.node_name:
                continue
            node, pool = one.spec.node_name, (one.spec.driver, one.spec.pool.name)
            self._index("slices_of", node, name, present)
            still = any(self._in_pool(other, pool) for other in self._read("slices_of").get(node, ()))
            self._index("nodes_of", pool, node, still)
            self._stale.add(node)

    def _in_pool(self, name: str, pool: tuple[str, str]) -> bool:
        one = self._read("resourceslices").get(name)
        return one is not None and (one.spec.driver, one.spec.pool.name) == pool

    def _claim(self, key: str, before: Any, after: Any) -> None:
        for one, present in ((before, False), (after, True)):
            for pool in pools_of(one):
                self._index("claims_of", pool, key, present)
                self.touched |= self._read("nodes_of").get(pool, frozenset())
            held = held_devices(one) if one is not None else None
            for uid, _, _ in held.pods if held is not None else ():
                self._index("holders", uid, key, present)

    def _index(self, table: str, key: Any, value: str, present: bool) -> None:
        known: frozenset[str] = self._read(table).get(key, frozenset())
        if (value in known) is present:
            return
        left = known | {value} if present else known - {value}
        if left:
            self._write(table)[key] = left
        else:
            self._write(table).pop(key, None)

    @property
    def is_changed(self) -> bool:
        """Whether any table has been written."""
        return bool(self._copies)

    def settled(self) -> DraState:
        """Return the state after the changes so far; `touched` names the nodes that they concern."""
        if self._after is not None and not self._stale:
            return self._after
        for node in self._stale:
            names = self._read("slices_of").get(node, frozenset())
            if names:
                slices = [self._read("resourceslices")[name] for name in names]
                self._write("inventories")[node] = node_devices(slices, self._read("devicetaintrules").values())
            else:
                self._write("inventories").pop(node, None)
        self.touched |= self._stale
        self._stale = set()
        kept = {name: getattr(self._before, name) for name in self._before.__dataclass_fields__}
        self._after = DraState(**{**kept, **self._copies})
        return self._after
