"""Journals of a service in memory: written, read, replayed."""

from __future__ import annotations

import io
from typing import Any

import msgspec

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.replay.journal_reader import JournalReader
from extender.decision.replay.journal_writer import Contents, archive_lines
from extender.decision.replay.replayed_decisions import Configuration, Replayed, replayed
from extender.server.from_settings import node_defaults, policy, ranker
from extender.server.service import Service
from extender.settings import Settings

MASK = 0x5EED5EED


def contents_of(service: Service, moment: Moment | None = None) -> Contents:
    """What a snapshot of the service is made of."""
    decisions = tuple(reversed(list(service.scheduling.log.recent())))
    return Contents(
        fabricwise="test",
        created_seconds=0.0,
        resource=service.settings.resource,
        settings=msgspec.to_builtins(service.settings),
        decisions=decisions,
        newest=moment or service.scheduling.moment(),
        mix=service.scheduling.size_mix,
    )


def journal_of(service: Service, mask: int | None = None) -> bytes:
    """The journal of a service."""
    return b"".join(archive_lines(contents_of(service), mask))


def configuration(settings: Settings) -> Configuration:
    """The settings as replay takes them."""
    return Configuration(policy(settings), ranker(settings.scoring), node_defaults(settings), settings.resource)


def reader_of(journal: bytes) -> JournalReader:
    """A reader of a journal."""
    return JournalReader(io.BytesIO(journal), "journal")


def replay(journal: bytes, settings: Settings) -> list[Replayed]:
    """All decisions made again."""
    return list(replayed(reader_of(journal), configuration(settings)))


def differing(results: list[Replayed]) -> list[Any]:
    """Those that are not identical, with the first difference."""
    return [
        (one.pod, one.verb, one.why_not, one.decided_before, one.decided_after, one.stall_before, one.stall_after, one.differences[:1])
        for one in results
        if not one.is_identical
    ]
