"""`GET /v1/snapshot`: everything that recent decisions were made from, as an archive that `fabricwise replay` reads.

The archive is made in a child process, so that it takes no time from the verbs, and sent while it is made.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.pace import Pace
from extender.decision.replay.journal_lines import MOST_DECISIONS
from extender.decision.replay.journal_writer import Contents, archive_lines
from extender.decision.replay.snapshot_archive import zipped
from extender.scheduling.scheduling_service import SchedulingService
from extender.web.long_work import LongWork, NotDone
from extender.web.openapi import described
from extender.web.questions.asked import not_answered
from extender.web.questions.known_parameters import ONLY_KNOWN_PARAMETERS
from extender.web.questions.streamed_answer import StreamedAnswer

SECONDS = 60.0
"""The longest time that an archive may take."""


class SnapshotRoutes:
    """The route of the snapshot."""

    def __init__(self, service: SchedulingService, long_work: LongWork, head: Mapping[str, Any], version: str) -> None:
        """`head`: the settings that decisions read. `version`: that of this program."""
        self._service, self._long_work, self._head, self._version = service, long_work, head, version

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        description = described(None, errors=(503,), media_type="application/zip")
        router.add_api_route("/snapshot", self.snapshot, methods=["GET"], dependencies=ONLY_KNOWN_PARAMETERS, **description)
        return router

    async def snapshot(
        self,
        hash_names: Annotated[
            bool, Query(description="replace names of nodes, pods, namespaces and GPUs; decisions remain the same")
        ] = False,
        decisions: Annotated[int, Query(ge=0, le=MOST_DECISIONS, description="the newest so many decisions")] = 1000,
    ) -> Response:
        """The state and the recent decisions, as an archive for `fabricwise replay`: without environments and secrets."""
        contents = await run_in_threadpool(self._contents, decisions)
        mask = secrets.randbits(32) if hash_names else None

        def work(pace: Pace) -> Iterator[bytes]:
            return zipped(archive_lines(contents, mask, pace))

        stream = await self._long_work.stream(work, SECONDS)
        if isinstance(stream, NotDone):
            return not_answered(stream)
        headers = {"Content-Disposition": 'attachment; filename="fabricwise-snapshot.zip"'}
        return StreamedAnswer(stream, "application/zip", headers)

    def _contents(self, most: int) -> Contents:
        """Return what the archive is made of. Nothing is copied: states are immutable."""
        newest = self._service.moment()
        recent = list(self._service.log.recent())[:most]
        return Contents(
            fabricwise=self._version,
            created_seconds=time.time(),
            resource=self._service.resource,
            settings=self._head,
            decisions=recent[::-1],
            newest=newest,
            mix=self._service.size_mix,
        )
