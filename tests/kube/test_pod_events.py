"""Events on pods: posted in order, from one thread, several in a row."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.report.prediction_outcomes import Known
from extender.kube.writing import events as events_module
from extender.kube.writing.events import PodEvents


class Api:
    """Keeps the events that are created; fails for one pod."""

    def __init__(self) -> None:
        self.pods: list[str] = []

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Keep the name of the event's pod."""
        name = manifest["involvedObject"]["name"]
        if name == "broken":
            raise RuntimeError("a bug")
        self.pods.append(name)
        return manifest


def posted(names: list[str], monkeypatch: pytest.MonkeyPatch, most: int = 5_000) -> tuple[Api, int]:
    """Post an event on each pod at once. Returns the API, and how often the posting thread was given work."""
    monkeypatch.setattr(events_module, "MOST_WAITING", most)
    api, runs = Api(), list[int]()
    events = PodEvents(api)  # type: ignore[arg-type]
    post_all = events._post_all
    events._post_all = lambda: (runs.append(1), post_all())[1]  # type: ignore[method-assign, func-returns-value]
    for name in names:
        events.floor_missed(Known(f"uid-{name}", "team", name, "n", (0, 1), 10.0), 20.0)
    events._posting.shutdown(wait=True)
    return api, len(runs)


def test_events_that_are_owed_together_are_posted_in_their_order_in_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"p{number}" for number in range(50)]
    api, runs = posted(names, monkeypatch)
    assert api.pods == names
    assert runs < 10


def test_error_about_one_event_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    api, _ = posted(["a", "broken", "b"], monkeypatch)
    assert api.pods == ["a", "b"]


def test_event_beyond_the_largest_number_that_wait_is_dropped_with_a_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api, _ = posted(["a", "b", "c"], monkeypatch, most=2)
    assert api.pods == ["a", "b"]
    assert "dropped" in caplog.text
