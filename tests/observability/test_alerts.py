"""Alert rules by promtool: they are valid, each fires when it should and not otherwise, and each has a runbook page."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT
from tests.collectors.prometheus_server import promtool_binary
from tests.docs.pages import links
from tests.observability.expressions import FOLDER, expressions, rules

Series = dict[str, str]
"""Series -> its values per minute, in promtool's notation."""

FREE = 'fabricwise_gpus{product="T4",state="free"}'
BUCKET = 'fabricwise_verb_seconds_bucket{{verb="filter",le="{}"}}'

# alert -> (series that make it fire within an hour, series with which it stays quiet)
CASES: dict[str, tuple[Series, Series]] = {
    "FabricwiseAbsent": ({"up": "1x60"}, {"fabricwise_synced": "1x60"}),
    "FabricwiseNotSynced": ({'fabricwise_synced{instance="a"}': "0x60"}, {'fabricwise_synced{instance="a"}': "0x3 1x60"}),
    "FabricwiseStateOld": ({"fabricwise_state_age_seconds": "0+60x60"}, {"fabricwise_state_age_seconds": "0 90 0x60"}),
    "FabricwiseVerbErrors": (
        {'fabricwise_verb_errors_total{verb="filter",cause="stale"}': "0+60x60"},
        {'fabricwise_verb_errors_total{verb="filter",cause="stale"}': "0 20 20x60"},
    ),
    "FabricwiseVerbSlow": (
        {BUCKET.format("0.1"): "0x60", BUCKET.format("0.5"): "0+60x60", BUCKET.format("+Inf"): "0+60x60"},
        {BUCKET.format("0.1"): "0+60x60", BUCKET.format("0.5"): "0+60x60", BUCKET.format("+Inf"): "0+60x60"},
    ),
    "FabricwiseLeaders": (
        {'fabricwise_leading{instance="a"}': "1x60", 'fabricwise_leading{instance="b"}': "1x60"},
        {'fabricwise_leading{instance="a"}': "1x60", 'fabricwise_leading{instance="b"}': "0x60"},
    ),
    "FabricwiseLoopDown": ({"fabricwise_loops_down": "1x60"}, {"fabricwise_loops_down": "0 1 0x60"}),
    "FabricwiseWatchFailing": (
        {'fabricwise_watch_failures_total{kind="pods",cause="403"}': "0+30x60"},
        {'fabricwise_watch_failures_total{kind="pods",cause="403"}': "0 1 1x60"},
    ),
    "FabricwiseObjectsSetAside": (
        {'fabricwise_objects_set_aside_total{kind="nodes",stage="derive"}': "0x10 1x60"},
        {'fabricwise_objects_set_aside_total{kind="nodes",stage="derive"}': "7x60"},
    ),
    "FabricwiseGpusFenced": ({"fabricwise_fenced_gpus": "1x60"}, {"fabricwise_fenced_gpus": "0x60"}),
    "FabricwiseTopologyContradicted": (
        {'fabricwise_nodes{topology="contradicted"}': "1x60"},
        {'fabricwise_nodes{topology="contradicted"}': "0x60", 'fabricwise_nodes{topology="unknown"}': "5x60"},
    ),
    "FabricwiseTopologyStale": ({"fabricwise_stale_topologies": "2x60"}, {"fabricwise_stale_topologies": "2x10 0x60"}),
    "FabricwiseTelemetryStale": (
        {'fabricwise_telemetry_nodes{telemetry="stale"}': "5x60", 'fabricwise_telemetry_nodes{telemetry="fresh"}': "15x60"},
        {'fabricwise_telemetry_nodes{telemetry="stale"}': "1x60", 'fabricwise_telemetry_nodes{telemetry="fresh"}': "15x60"},
    ),
    "FabricwisePredictionsMiss": (
        {'fabricwise_predictions_total{in_support="no"}': "0+1x60", 'fabricwise_predictions_total{in_support="yes"}': "0+2x60"},
        {
            'fabricwise_predictions_total{in_support="no"}': "0x60",
            'fabricwise_predictions_total{in_support="yes"}': "0+2x60",
            'fabricwise_predictions_total{in_support="unknown"}': "0+9x60",
        },
    ),
    "FabricwisePodsWait": (
        {"fabricwise_pending_pods": "3x60", FREE: "8x60"},
        {"fabricwise_pending_pods": "3x60", FREE: "0x60"},
    ),
}


# what a series shows -> (alert, series, whether it fires)
EDGES: dict[str, tuple[str, Series, bool]] = {
    "the first object, whose counter appears with the value 1": (
        "FabricwiseObjectsSetAside",
        {'fabricwise_objects_set_aside_total{kind="nodes",stage="derive"}': "_x44 1x15"},
        True,
    ),
    "the first object, an hour later": (
        "FabricwiseObjectsSetAside",
        {'fabricwise_objects_set_aside_total{kind="nodes",stage="derive"}': "_x4 1x55"},
        False,
    ),
    "one miss of three predictions": (
        "FabricwisePredictionsMiss",
        {'fabricwise_predictions_total{in_support="no"}': "0x10 1x49", 'fabricwise_predictions_total{in_support="yes"}': "0x10 2x49"},
        False,
    ),
}


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    """The rules as Prometheus itself reads them."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())["spec"]))
    return path


def promtool(*arguments: str) -> str:
    """Run promtool, which must succeed. Returns what it prints."""
    done = subprocess.run([promtool_binary(), *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_are_valid(rule_file: Path) -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(rule_file))


def test_expressions_of_dashboards_are_valid(tmp_path: Path) -> None:
    """promtool checks them as rules that record them."""
    recorded = [
        {"record": f"dashboard:number_{number}", "expr": expression.replace("$node", "a")}
        for number, (_, expression) in enumerate(expressions())
        if not expression.startswith("label_values(")
    ]
    path = tmp_path / "dashboards.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", "--lint=none", str(path))


def unit_test(series: Series, alert: str, fires: bool) -> dict[str, Any]:
    """One test of promtool: whether the alert is firing after an hour."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                "eval_time": "59m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def test_each_alert_fires_when_it_should_and_not_otherwise(rule_file: Path, tmp_path: Path) -> None:
    tests = [unit_test(series, alert, fires) for alert, pair in CASES.items() for series, fires in zip(pair, (True, False), strict=True)]
    tests += [unit_test(series, alert, fires) for alert, series, fires in EDGES.values()]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(path))


def test_a_test_that_is_wrong_fails(rule_file: Path, tmp_path: Path) -> None:
    """promtool really evaluates: the same test with the opposite result fails."""
    path = tmp_path / "tests.yaml"
    quiet = unit_test(CASES["FabricwiseGpusFenced"][1], "FabricwiseGpusFenced", True)
    path.write_text(yaml.safe_dump({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": [quiet]}))
    with pytest.raises(AssertionError):
        promtool("test", "rules", str(path))


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook_page_that_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.stem == rule["alert"]
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Meaning", "## Diagnosis", "## Remedy"]
    assert f"Severity: {rule['labels']['severity']}. It fires after {rule['for']} of `{rule['expr']}`." in text
    assert text.splitlines()[4].startswith("Threshold: "), "why this number and this time"
    for target in links(page):
        assert target.startswith("https://") or (page.parent / target).is_file(), target
    assert f"(runbooks/{rule['alert']}.md)" in (ROOT / "docs/observability.md").read_text()


def test_no_runbook_is_left_over() -> None:
    assert {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")} == {rule["alert"] for rule in rules()}
