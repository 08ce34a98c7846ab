"""`GET /v1/snapshot` is sent while it is made: an archive that cannot be completed does not look complete."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from extender.web.questions import snapshot_routes
from tests.conftest import Served


def test_archive_that_fails_before_its_first_part_is_an_error_with_a_status(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Iterator[bytes]:
        raise ValueError("a state that cannot be written")

    monkeypatch.setattr(snapshot_routes, "archive_lines", failing)
    answer = served.client.get("/v1/snapshot")
    assert answer.status_code == 503
    assert "a state that cannot be written" in answer.json()["error"]


def test_connection_of_an_archive_that_fails_in_its_middle_is_closed_before_the_end(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Iterator[bytes]:
        for _part in range(64):
            yield os.urandom(16 << 10)
        raise ValueError("a state that cannot be written")

    monkeypatch.setattr(snapshot_routes, "archive_lines", failing)
    parts: list[bytes] = []
    with httpx.stream("GET", served.client.base_url.join("/v1/snapshot")) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            parts.extend(answer.iter_bytes())
    assert parts
    assert served.client.get("/v1/slots").status_code == 200, "the next question is answered"
