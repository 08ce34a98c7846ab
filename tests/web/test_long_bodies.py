"""A long body is decoded in a child process, so that no verb waits for it; its answer is that of a short one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.web.questions.asked import reader
from tests.conftest import Served
from tests.objects import pod

PADDING_BYTES = 100_000


def padded(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with an annotation that nothing reads."""
    metadata = manifest["metadata"]
    return manifest | {"metadata": metadata | {"annotations": {**metadata.get("annotations", {}), "padding": "x" * PADDING_BYTES}}}


POD = pod(8, name="asked", annotations={"fabricwise.dev/min-busbw": "900"})
NO_POD = {"metadata": {"name": "n"}, "spec": {"containers": 7}}

BODIES: dict[str, tuple[str, Any, Any]] = {
    "explain": ("/v1/explain", POD, padded(POD)),
    "explain, no pod": ("/v1/explain", NO_POD, padded(NO_POD)),
    "why": ("/v1/why", {"pod": POD}, {"pod": padded(POD)}),
    "why, no pod": ("/v1/why", {"pod": NO_POD}, {"pod": padded(NO_POD)}),
    "what-if": ("/v1/what-if", {"add": [{"pod": POD}]}, {"add": [{"pod": padded(POD)}]}),
    "what-if, no pod": ("/v1/what-if", {"add": [{"pod": NO_POD}]}, {"add": [{"pod": padded(NO_POD)}]}),
}


@pytest.mark.parametrize("case", BODIES)
def test_answer_to_a_long_body_is_that_to_a_short_one(served: Served, case: str) -> None:
    path, short, long = BODIES[case]
    answers = [served.client.post(path, json=body) for body in (short, long)]
    assert answers[0].status_code == answers[1].status_code == (400 if "no pod" in case else 200)
    assert answers[0].json() == answers[1].json()


WRONG: dict[str, tuple[str, bytes, str]] = {
    "a million pods": ("/v1/what-if", b'{"add": [' + b",".join([b'{"gpus": 4}'] * 500_000) + b"]}", "length <= 100"),
    "a deep setting": ("/v1/what-if", b'{"set": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "maximum recursion depth"),
    "a deep list": ("/v1/why", b"[" * 1_000_000, "Expected `object`"),
    "a deep manifest": ("/v1/explain", b"[" * 1_000_000, "request body"),
    "cut off": ("/v1/why", json.dumps({"pod": padded(POD)}).encode()[:-2], "Input data was truncated"),
}


@pytest.mark.parametrize("case", WRONG)
def test_long_body_that_cannot_be_used_is_status_400_and_says_why(served: Served, case: str) -> None:
    path, body, why = WRONG[case]
    response = served.client.post(path, content=body)
    assert (response.status_code, why in response.json()["error"]) == (400, True), response.text[:500]


def test_long_body_is_not_decoded_before_it_is_read() -> None:
    decoded: list[bytes] = []
    reader(b"short", decoded.append)
    read = reader(b"x" * PADDING_BYTES, decoded.append)
    assert decoded == [b"short"]
    read()
    assert len(decoded) == 2
