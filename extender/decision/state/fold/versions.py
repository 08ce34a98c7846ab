"""Which change is news: resourceVersions of known objects, and tombstones of deleted ones."""

from __future__ import annotations

from immutables import Map

from extender.decision.state.fold.draft import Draft
from extender.decision.state.snapshot import Tombstone

MOST_TOMBSTONES = 4_000
"""Tombstones that are kept: many more than the changes that a watch can deliver out of order. Of more, the oldest are dropped."""

_NONE: Map[str, int] = Map()


def is_news(draft: Draft, kind: str, key: str, version: int | None) -> bool:
    """Whether nothing newer is known: neither the object itself, nor its deletion, nor a list of its kind without it."""
    if version is None:
        return True
    known = draft.versions.now.get(kind, _NONE).get(key)
    if known is not None:
        return known <= version
    return max(_last_of_deleted(draft, f"{kind}/{key}"), draft.list_versions.now.get(kind, -1)) < version


def is_deletion_news(draft: Draft, kind: str, key: str, version: int | None) -> bool:
    """Whether a deletion is at least as new as the known object."""
    return version is None or version >= draft.versions.now.get(kind, _NONE).get(key, version)


def remember_version(draft: Draft, kind: str, key: str, version: int | None, is_kept: bool) -> None:
    """Record the version of an object. Only of objects that are kept: most pods of a cluster have nothing to do with GPUs."""
    versions = draft.versions.now.get(kind, _NONE)
    if version is not None and versions.get(key) != version and (is_kept or key in versions):
        _replace_versions(draft, kind, versions.set(key, version))


def keep_tombstone(draft: Draft, kind: str, key: str, version: int | None) -> None:
    """Record a deletion, also of an object that was never known: the change that adds it may still arrive."""
    subject, versions = f"{kind}/{key}", draft.versions.now.get(kind, _NONE)
    known = versions.get(key)
    if known is not None:
        _replace_versions(draft, kind, versions.delete(key))
    last = known if version is None else version
    if last is None or last <= _last_of_deleted(draft, subject):
        return
    number = draft.deletions
    draft.deletions += 1
    draft.tombstones.set(subject, Tombstone(last, number))
    draft.tombstone_order.set(number, subject)
    _drop_tombstone(draft, number - MOST_TOMBSTONES)


def _replace_versions(draft: Draft, kind: str, versions: Map[str, int]) -> None:
    """Replace the versions of a kind, without a comparison with the previous ones."""
    written = draft.versions.writable()
    if versions:
        written[kind] = versions
    else:
        written.pop(kind, None)


def _last_of_deleted(draft: Draft, subject: str) -> int:
    """Return the last resourceVersion of a deleted object; -1 where there is no tombstone of it."""
    tombstone = draft.tombstones.now.get(subject)
    return -1 if tombstone is None else tombstone.version


def _drop_tombstone(draft: Draft, number: int) -> None:
    """Drop the tombstone with this number, unless its object was deleted again later."""
    subject = draft.tombstone_order.pop(number)
    tombstone = draft.tombstones.now.get(subject) if subject is not None else None
    if subject is not None and tombstone is not None and tombstone.number == number:
        draft.tombstones.pop(subject)


def forget_versions(draft: Draft, kind: str) -> None:
    """Forget all versions of a kind before a list of it is folded: a list is right even from a server restored to an older state."""
    draft.list_versions.put(kind, None)
    _replace_versions(draft, kind, _NONE)
    for subject in [subject for subject in draft.tombstones.now if subject.startswith(f"{kind}/")]:
        draft.tombstones.pop(subject)
