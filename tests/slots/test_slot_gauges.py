"""The gauges of slots: bounded in labels, and set by a loop beside the verbs."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.slots.slot_answer import most_common
from extender.decision.slots.slot_question import SlotQuestion
from extender.metrics import Metrics
from extender.scheduling.supervision import Supervisor
from extender.server import slot_gauges
from extender.server.cluster_source import open_service
from extender.server.slot_gauges import SlotGauges
from extender.settings import Settings, SlotGaugeSettings
from extender.web.long_work import LongWork
from tests.slots.machines_in_use import counted, machine_node
from tests.waiting import wait


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_gauges_are_set_by_a_loop_of_the_service() -> None:
    fed = open_service("simulated", Settings())
    fed.start()
    try:
        wait("the gauge", lambda: value(fed.service.metrics, "fabricwise_slots", product="Tesla-T4", size="2") == 4.0)
        lost = {"product": "Tesla-T4", "size": "2", "cause": "fragmentation_over_nodes"}
        assert value(fed.service.metrics, "fabricwise_slots_lost", **lost) == 0.0
    finally:
        fed.stop()


def test_setting_turns_the_gauges_off() -> None:
    fed = open_service("simulated", Settings(slot_gauges=SlotGaugeSettings(enabled=False)))
    fed.start()
    try:
        assert not [loop for loop in fed.service.supervisor._loops if loop.name == "slot-gauges"]
        assert value(fed.service.metrics, "fabricwise_slots", product="Tesla-T4", size="2") is None
    finally:
        fed.stop()


def gauges(settings: Settings) -> tuple[SlotGauges, Metrics]:
    """The gauges of the simulated cluster, whose loop does not run."""
    fed, metrics = open_service("simulated", settings), Metrics()
    fed.source.start(fed.service)
    return SlotGauges(fed.service.store, metrics, settings, Supervisor(metrics), LongWork()), metrics


def test_further_products_are_counted_as_other() -> None:
    counting, metrics = gauges(Settings(slot_gauges=SlotGaugeSettings(most_products=2)))
    counting.count()
    products = {sample.labels["product"] for family in metrics.slots.collect() for sample in family.samples}
    assert products == {"NVIDIA-A100-80GB-PCIe", "Tesla-V100-SXM2-32GB", "other"}
    assert value(metrics, "fabricwise_slots", product="other", size="1") == 92 - 32


def test_count_that_takes_too_long_leaves_no_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    counting, metrics = gauges(Settings())
    counting.count()
    monkeypatch.setattr(slot_gauges, "COUNT_SECONDS", -1.0)
    counting._counted = None
    counting.count()
    assert value(metrics, "fabricwise_slots", product="Tesla-T4", size="2") is None


def test_state_that_did_not_change_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counting, _ = gauges(Settings())
    counting.count()

    def unexpected(*_: Any) -> bytes:
        raise AssertionError("counted again")

    monkeypatch.setattr(LongWork, "answer", unexpected)
    counting.count()


def test_rows_of_several_products_add_up() -> None:
    objects = [*machine_node("a", "t4"), *machine_node("b", "hgx-h100", {"p": (0,)}), *machine_node("c", "l4", unhealthy=(1,))]
    answer = counted(objects, SlotQuestion((2, 8)))
    (row,) = most_common(answer.rows, 0)
    assert (row.nodes, row.gpus, row.idle_gpus) == (3, 20, 19)
    assert row.sizes == answer.total.sizes
