"""How the objects of resource.k8s.io alter the draft: ResourceSlices, DeviceClasses, ResourceClaims, their templates, DeviceTaintRules."""

from __future__ import annotations

from collections.abc import Collection

from extender.decision.dra.dra_state import DraObjectGone, DraObjectSeen, DraState
from extender.decision.state.fold.draft import Draft
from extender.decision.state.isolation import SetAside


def dra_object_changed(draft: Draft, change: DraObjectSeen | DraObjectGone) -> None:
    """Take over one object."""
    draft.dra.apply(change)


def dra_kind_listed(draft: Draft, kind: str, changes: Collection[object], version: int | None) -> None:
    """Take over the list of a kind: objects that are not in it are gone, or set aside. `version` is None where no API server lists it."""
    aside = [change for change in changes if isinstance(change, SetAside)]
    named = {entry.name for entry in aside}
    for entry in [entry for entry in draft.set_aside.now.values() if entry.kind == kind and entry.name not in named]:
        draft.set_aside.put(entry.key, None)
    draft.dra.relist(kind, [change for change in changes if isinstance(change, DraObjectSeen)], is_watched=version is not None)
    for entry in aside:
        draft.put_aside(entry)


def settle_devices(draft: Draft) -> None:
    """Derive the devices of the nodes whose slices or rules changed, and mark the nodes whose views depend on any change."""
    draft.dra.settled()
    draft.touched |= draft.dra.touched


def ended_holders(draft: Draft, dra: DraState, node: str) -> frozenset[str]:
    """Return the uids of pods that hold claims on a node and are deleted, or terminate now."""
    if not dra.slices_of.get(node):
        return frozenset()
    tombstones, pods = draft.tombstones.now, draft.pods.now
    uids = {pod[0] for held in dra.held_on(node) for pod in held.pods}
    return frozenset(uid for uid in uids if f"pods/{uid}" in tombstones or (uid in pods and pods[uid].terminating))
