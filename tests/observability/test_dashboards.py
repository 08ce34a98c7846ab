"""Dashboards and alert rules use metrics that a running service has, with the labels and values that it has."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from tests.observability.exercised_service import exercised
from tests.observability.expressions import FOLDER, dashboards, expressions, needs
from tests.web.live_clusters import served_verbs, small_service

Series = tuple[dict[str, set[str]], set[tuple[str, str]]]
"""(metric -> its labels, all (label, value) pairs)."""


@pytest.fixture(scope="module")
def series() -> Series:
    """The series of a service that decides, refuses, errs and measures."""
    with exercised() as (service, client):
        text = client.get("/metrics").text
    labels: dict[str, set[str]] = {}
    values: set[tuple[str, str]] = set()
    for family in text_string_to_metric_families(text):
        for name in _names_of(family.name, family.type):
            labels.setdefault(name, set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
            values |= set(sample.labels.items())
    for name, declared in _declared(service.metrics).items():
        for of_kind in _names_of(name, ""):
            if of_kind in labels:
                labels[of_kind] |= declared | ({"le"} if of_kind.endswith("_bucket") else set())
    return labels, values


def _names_of(name: str, kind: str) -> list[str]:
    """The names of a family's samples, also of one without samples yet."""
    parts = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "": ["", "_total", "_bucket", "_count", "_sum"]}
    return [name + part for part in parts.get(kind, [""])]


def _declared(metrics: Any) -> dict[str, set[str]]:
    """Metric -> the labels that it declares: a counter without an event has no sample that shows them."""
    declared = {collector._name: set(collector._labelnames) for collector in vars(metrics).values() if hasattr(collector, "_labelnames")}
    for collector in (metrics.steering, metrics.rows, metrics.slots):
        for family in collector.collect():
            declared[family.name] = set(family._labelnames)
    return declared


@pytest.mark.parametrize("need", list(needs()), ids=lambda need: f"{need.where} {need.metric}")
def test_metric_of_every_expression_exists_in_the_running_service(need: Any, series: Series) -> None:
    labels, values = series
    assert need.metric in labels
    assert need.labels <= labels[need.metric], need.labels - labels[need.metric]
    later = {("in_support", "yes"), ("in_support", "no")}  # the outcome of a prediction
    assert set(need.values) <= values | later, set(need.values) - values


def test_the_check_reads_every_expression() -> None:
    found = list(expressions())
    assert len(found) > 60
    assert {need.where for need in needs()} == {where for where, _ in found}, "each expression uses a metric of Fabricwise"


def lost(given: Any, kept: Any, where: str = "") -> list[str]:
    """The paths of `given` that `kept` has not, or has otherwise."""
    if isinstance(given, dict) and isinstance(kept, dict):
        found = [f"{where}/{key}" for key in given if key not in kept]
        return found + [path for key in given if key in kept for path in lost(given[key], kept[key], f"{where}/{key}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [path for number, (value, other) in pairs for path in lost(value, other, f"{where}/{number}")]
    return [] if given == kept else [where]


@pytest.mark.parametrize("name", dashboards())
def test_dashboard_has_only_what_grafanas_schema_has(name: str) -> None:
    """Grafana's own types read it and write it again: a field that they do not know would be lost."""
    dashboard = dashboards()[name]
    written = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard)))
    assert lost(dashboard, written) == []
    assert lost({**dashboard, "unknownField": 1}, written) == ["/unknownField"], "the check sees an unknown field"


@pytest.mark.parametrize("name", dashboards())
def test_panels_have_ids_and_places_of_their_own(name: str) -> None:
    panels = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        covered = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not covered & cells, panel["title"]
        cells |= covered
    for panel in panels:
        assert panel["type"] == "row" or panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_dashboard_is_provisioned() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    (generator,) = kustomization["configMapGenerator"]
    assert sorted(entry.split("=")[1] for entry in generator["files"]) == sorted(f"dashboards/{name}.json" for name in dashboards())
    assert kustomization["generatorOptions"]["labels"]["grafana_dashboard"] == "1"
    assert len({dashboard["uid"] for dashboard in dashboards().values()}) == len(dashboards()) == 3
    assert {(FOLDER / entry).is_file() for entry in kustomization["resources"]} == {True}


def test_values_per_node_are_left_out_of_a_larger_cluster() -> None:
    texts = {}
    for most in (2, 3):
        service, _ = small_service(node_metrics=most)
        with served_verbs(service) as client:
            texts[most] = client.get("/metrics").text
    assert 'fabricwise_node_gpus{node="t4-0",state="free"} 4.0' in texts[3]
    assert "fabricwise_node_metrics_omitted 0.0" in texts[3]
    assert "fabricwise_node_gpus{" not in texts[2]
    assert "fabricwise_node_metrics_omitted 1.0" in texts[2]
    assert 'fabricwise_gpus{product="Tesla T4",state="free"} 8.0' in texts[2]


PER_SECOND = {"cps", "reqps", "ops", "Bps"}
"""Units of Grafana that say so."""


@pytest.mark.parametrize("name", dashboards())
def test_panel_that_shows_a_rate_has_a_unit_per_second_and_no_other_has(name: str) -> None:
    for panel in dashboards()[name]["panels"]:
        queries = [target["expr"] for target in panel.get("targets", [])]
        if panel["type"] == "timeseries":
            is_rate = any("rate(" in query and "histogram_quantile(" not in query for query in queries)
            assert (panel["fieldConfig"]["defaults"].get("unit") in PER_SECOND) is is_rate, panel["title"]
