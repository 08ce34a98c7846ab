"""The choice as the steerer makes it: pods that are seen late, or not at all."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from extender.steering.answers.chooser import Chooser
from extender.steering.choice.device_choice import Answer, Basis, Reason, Request
from extender.steering.choice.waiting_pods import NodePod
from tests.steering.choice.waiting_manifests import FACTS, manifest, pods
from tests.steering.steered_machine import GPU, IDS
from topology.agent.pod_resources import AllocatedDevices, PodResourcesError


@dataclass
class SeenPods:
    """Pods of the node, of which `late` are seen after the first look."""

    first: list[NodePod] = field(default_factory=list)
    late: list[NodePod] = field(default_factory=list)
    are_followed: bool = True
    looks: int = 0

    def asking_for(self, resource: str) -> tuple[NodePod, ...]:
        self.looks += 1
        return tuple(self.first if self.looks == 1 else [*self.first, *self.late])


@dataclass
class Allocations:
    """The kubelet's answer who has devices."""

    held: tuple[AllocatedDevices, ...] = ()
    error: PodResourcesError | None = None

    def list(self) -> tuple[AllocatedDevices, ...]:
        if self.error is not None:
            raise self.error
        return self.held


NOTHING_HELD: Any = Allocations()


def choose(seen: SeenPods, size: int, kubelet: Any = NOTHING_HELD) -> Answer:
    found = Chooser(lambda: FACTS, seen, kubelet).choose(GPU, Request(IDS, (), size), limit_seconds=20)
    assert isinstance(found, Answer)
    return found


DECIDED = pods(manifest("a", [2], decided=[[4, 5]]))


def test_pod_that_the_kubelet_has_seen_first_is_waited_for() -> None:
    assert choose(SeenPods(late=DECIDED), 2) == Answer(("GPU-4", "GPU-5"), Basis.DECISION)


def test_pod_that_is_seen_late_is_waited_for_although_others_of_its_size_run() -> None:
    running = AllocatedDevices("team", "b", "main-0", GPU, ("GPU-0", "GPU-1"))
    seen = SeenPods(first=pods(manifest("b", [2], decided=[[0, 1]])), late=DECIDED)
    assert choose(seen, 2, Allocations((running,))) == Answer(("GPU-4", "GPU-5"), Basis.DECISION)


def test_no_pod_is_waited_for_while_the_api_server_is_away() -> None:
    seen = SeenPods(late=DECIDED, are_followed=False)
    assert choose(seen, 2).basis is Basis.FUNCTION
    assert seen.looks == 1


@pytest.mark.parametrize("size", [1, 2])
def test_pod_that_is_never_seen_gets_the_set_of_the_function(size: int) -> None:
    assert choose(SeenPods(first=pods(manifest("b", [3], decided=[[5, 6, 7]]))), size).ids == IDS[:size]


def test_decisions_are_not_used_where_the_kubelet_does_not_say_who_has_devices() -> None:
    assert choose(SeenPods(first=DECIDED), 2, Allocations(error=PodResourcesError("away"))).basis is Basis.FUNCTION


def test_pod_that_did_not_come_is_not_waited_for_again_until_other_pods_are_seen() -> None:
    seen = SeenPods()
    chooser = Chooser(lambda: FACTS, seen, NOTHING_HELD)
    request = Request(IDS, (), 2)
    chooser.choose(GPU, request, limit_seconds=20)
    looks = seen.looks
    chooser.choose(GPU, request, limit_seconds=20)
    assert (looks > 1, seen.looks) == (True, looks + 1)
    seen.late = pods(manifest("b", [3]))
    chooser.choose(GPU, request, limit_seconds=20)
    assert seen.looks > looks + 2


def test_several_requests_at_once_are_answered() -> None:
    chooser = Chooser(lambda: FACTS, SeenPods(first=DECIDED), NOTHING_HELD)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(chooser.choose(GPU, Request(IDS, (), 2), limit_seconds=20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Answer(("GPU-4", "GPU-5"), Basis.DECISION)] * 8


def test_choice_that_nothing_waits_for_any_more_is_not_begun() -> None:
    begun, go_on = [], threading.Event()

    def facts() -> Any:
        begun.append(1)
        go_on.wait()
        return FACTS

    chooser = Chooser(facts, None, None)
    found = [chooser.choose(GPU, Request(IDS, (), 2), limit_seconds=0.01) for _ in range(20)]
    go_on.set()
    chooser._threads.shutdown()
    assert set(found) == {Reason.TIMEOUT}
    assert len(begun) <= 4, "not more than there are threads"
