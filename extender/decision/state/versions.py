"""Which change is news: resourceVersions of known objects, and tombstones of deleted ones."""

from __future__ import annotations

from extender.decision.state.draft import Draft

MOST_TOMBSTONES = 4_000
"""Tombstones that are kept: many more than the changes that a watch can deliver out of order."""


def is_news(draft: Draft, kind: str, key: str, version: int | None) -> bool:
    """Whether nothing newer is known: neither the object itself, nor its deletion, nor a list of its kind without it."""
    if version is None:
        return True
    subject = f"{kind}/{key}"
    known = draft.versions.now.get(subject)
    if known is not None:
        return known <= version
    return max(draft.tombstones.now.get(subject, -1), draft.list_versions.now.get(kind, -1)) < version


def is_deletion_news(draft: Draft, kind: str, key: str, version: int | None) -> bool:
    """Whether a deletion is at least as new as the known object."""
    return version is None or version >= draft.versions.now.get(f"{kind}/{key}", version)


def remember_version(draft: Draft, kind: str, key: str, version: int | None, is_kept: bool) -> None:
    """Record the version of an object. Only of objects that are kept: most pods of a cluster have nothing to do with GPUs."""
    subject, versions = f"{kind}/{key}", draft.versions.now
    if version is not None and (is_kept or subject in versions):
        draft.versions.put(subject, version)


def keep_tombstone(draft: Draft, kind: str, key: str, version: int | None) -> None:
    """Record a deletion, also of an object that was never known: the change that adds it may still arrive."""
    subject = f"{kind}/{key}"
    known = draft.versions.writable().pop(subject) if subject in draft.versions.now else None
    last = known if version is None else version
    if last is None or last <= draft.tombstones.now.get(subject, -1):
        return
    tombstones = draft.tombstones.writable()
    tombstones[subject] = last
    if len(tombstones) > MOST_TOMBSTONES:
        del tombstones[next(iter(tombstones))]


def forget_versions(draft: Draft, kind: str) -> None:
    """Forget all versions of a kind before a list of it is folded: a list is right even from a server restored to an older state."""
    draft.list_versions.put(kind, None)
    for table in (draft.versions, draft.tombstones):
        if outdated := [subject for subject in table.now if subject.startswith(f"{kind}/")]:
            written = table.writable()
            for subject in outdated:
                del written[subject]
