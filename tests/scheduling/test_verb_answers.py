"""Answers that are encoded without an object per node are those that the typed encoder gives."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.cycle.scheduling_cycle import Stall, evaluate_pod
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.by_name.verdict_table import VerdictTable
from extender.decision.evaluate.verdict import Evidence, verdict_of
from extender.decision.request.reasons import Reason, Rejection
from extender.errors import RequestError
from extender.scheduling.scheduling_service import STILL_EVALUATING
from extender.server.service import build_service
from extender.settings import Limits, Server, Settings
from extender.sources.simulated import simulated
from extender.web import wire
from extender.web.scheduler_api import INTERNAL, FilteredPods
from extender.web.verb_answers import filter_answer
from tests.conftest import serve
from tests.objects import pod

VERDICTS = [verdict_of(None, Evidence()), *(verdict_of(Rejection(reason, ""), Evidence()) for reason in Reason)]
NAMES = st.text(min_size=1, max_size=8) | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)


@given(st.dictionaries(NAMES.filter(lambda name: name.isprintable()), st.sampled_from(VERDICTS), max_size=12))
def test_filter_answer_names_every_node_once_with_its_reason(verdicts: dict[str, Any]) -> None:
    args = wire.decode_args(json.dumps({"Pod": pod(1), "NodeNames": list(verdicts)}).encode())
    named = wire.named_nodes(args)
    encoded, passed, passed_json = filter_answer(named, NodeVerdicts.of(verdicts.values()))
    answer = json.loads(encoded)
    rejected = {name: verdict for name, verdict in verdicts.items() if not verdict.feasible}
    assert answer == {
        "Nodes": None,
        "NodeNames": [name for name in verdicts if name not in rejected],
        "FailedNodes": {name: verdict.reason for name, verdict in rejected.items() if verdict.resolvable},
        "FailedAndUnresolvableNodes": {name: verdict.reason for name, verdict in rejected.items() if not verdict.resolvable},
        "Error": "",
    }
    assert list(passed) == json.loads(passed_json) == answer["NodeNames"]


@pytest.mark.parametrize("names", ['["a","b"]', '[ "a", "b" ]', '["a","b","a"]', '["\\u0061","b"]', "[]", "null"])
def test_names_are_read_in_any_form_that_json_allows(names: str) -> None:
    args = wire.decode_args(f'{{"Pod": {json.dumps(pod(1))}, "NodeNames": {names}}}'.encode())
    named = wire.named_nodes(args)
    assert list(named.names) == list(dict.fromkeys(json.loads(names) or []))
    assert named.names.texts == json.loads(named.json) or names == "null"


@pytest.mark.parametrize("names", ["[1]", '["a", null]', '{"a": 1}', '"a"', "3"])
def test_names_that_are_no_list_of_strings_are_refused_with_the_field(names: str) -> None:
    args = wire.decode_args(f'{{"Pod": {json.dumps(pod(1))}, "NodeNames": {names}}}'.encode())
    with pytest.raises(RequestError, match=r"\$\.NodeNames"):
        wire.named_nodes(args)


def request(manifest: dict[str, Any], names: str) -> tuple[bytes, wire.ExtenderArgs]:
    body = f'{{"Pod":{json.dumps(manifest)},"Nodes":null,"NodeNames":{names}}}'.encode()
    return body, wire.decode_args(body)


def test_request_with_the_pod_and_the_names_of_a_late_filter_request_is_found_and_no_other() -> None:
    filtered = FilteredPods()
    for number in range(9):
        body, args = request(pod(1, name=f"pod-{number}"), '["a","b"]')
        filtered.keep(body, args, NodeNames(["a"]), b'["a"]')
    found = filtered.find(request(pod(1, name="pod-8"), '["a"]')[0])
    assert found is not None
    assert (found[0].metadata.name, list(found[1])) == ("pod-8", ["a"])
    others = {
        "other names": request(pod(1, name="pod-8"), '["b"]'),
        "more names": request(pod(1, name="pod-8"), '["a","b"]'),
        "another request of the pod": request(pod(2, name="pod-8"), '["a"]'),
        "the oldest is dropped": request(pod(1, name="pod-0"), '["a"]'),
    }
    assert [why for why, (body, _) in others.items() if filtered.find(body) is not None] == []
    assert filtered.find(request(pod(1, name="pod-8"), '["a"]')[0][:-1] + b" ") is None, "not JSON"


def test_filter_request_that_does_not_end_with_its_names_is_not_kept() -> None:
    filtered = FilteredPods()
    body = f'{{"NodeNames":["a"],"Pod":{json.dumps(pod(1))}}}'.encode()
    filtered.keep(body, wire.decode_args(body), NodeNames(["a"]), b'["a"]')
    assert filtered.find(body) is None


def test_names_chosen_keep_their_rows_and_hashes() -> None:
    names = NodeNames(["a", "b", "c"])
    hashes = names.hashes.tolist()
    names.located("rows", np.array([4, 5, 6]), names.hashes)
    chosen = names.chosen(np.array([True, False, True]))
    assert (list(chosen), chosen.hashes.tolist()) == (["a", "c"], [hashes[0], hashes[2]])
    assert chosen.rows is not None
    assert chosen.rows[1].tolist() == [4, 6]


def test_first_evaluation_that_takes_too_long_is_answered_with_try_again_and_found_by_a_later_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end, evaluate = threading.Event(), VerdictTable.evaluate

    def slow(self: VerdictTable, unevaluated: Any) -> None:
        assert may_end.wait(30)
        evaluate(self, unevaluated)

    monkeypatch.setattr(VerdictTable, "evaluate", slow)
    monkeypatch.setattr("extender.decision.evaluate.by_name.verdict_table._MOST_EVALUATED", 0)
    service = build_service(Settings(server=Server(log_level="error"), limits=Limits(evaluation_seconds=0.05)))
    cluster = simulated("nvidia.com/gpu")
    service.store.apply(cluster.listing())
    with contextmanager(serve)(service, cluster) as served:
        body = {"Pod": pod(3), "NodeNames": list(served.cluster.machines)}
        assert served.client.post("/scheduler/filter", json=body).json()["Error"] == STILL_EVALUATING
        assert served.client.get("/healthz").status_code == 200
        scores = served.client.post("/scheduler/prioritize", json=body)
        assert (scores.json(), scores.headers["X-Fabricwise-Error"]) == ([], STILL_EVALUATING)
        may_end.set()
        answers = (served.client.post("/scheduler/filter", json=body).json() for _ in range(100))
        answer = next(answer for answer in answers if not answer["Error"])
        assert answer["NodeNames"]
        assert served.client.get("/v1/decisions").json()["decisions"][0]["error"] is None, "an attempt without an answer is not logged"


def test_first_evaluation_that_raises_is_answered_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: VerdictTable, unevaluated: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(VerdictTable, "evaluate", broken)
    monkeypatch.setattr("extender.decision.evaluate.by_name.verdict_table._MOST_EVALUATED", 0)
    service, cluster = build_service(Settings(server=Server(log_level="critical"))), simulated("nvidia.com/gpu")
    service.store.apply(cluster.listing())
    with contextmanager(serve)(service, cluster) as served:
        body = {"Pod": pod(3), "NodeNames": list(served.cluster.machines)}
        assert served.client.post("/scheduler/filter", json=body).json()["Error"] == INTERNAL


def test_log_is_settled_after_an_answer_that_asks_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions that are not settled have no bound in bytes."""
    from extender.scheduling import scheduling_service

    def stalled(*arguments: Any, **options: Any) -> Any:
        return replace(evaluate_pod(*arguments, **options), stall=Stall.HELD)

    service, cluster = build_service(Settings(server=Server(log_level="error"))), simulated("nvidia.com/gpu")
    service.store.apply(cluster.listing())
    with contextmanager(serve)(service, cluster) as served:
        body = {"Pod": pod(1), "NodeNames": list(served.cluster.machines)}
        for stalls in (True, False, True, False):
            with monkeypatch.context() as patch:
                if stalls:
                    patch.setattr(scheduling_service, "evaluate_pod", stalled)
                answer = served.client.post("/scheduler/filter", json=body).json()
            assert (answer["Error"] == Stall.HELD) is stalls
            deadline = time.monotonic() + 20
            while service.scheduling.log.unsettled and time.monotonic() < deadline:
                time.sleep(0.01)
            assert service.scheduling.log.unsettled == 0
