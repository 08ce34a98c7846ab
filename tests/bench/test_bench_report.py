"""The benchmark's table, its JSON, and a whole run on tiny clusters."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.__main__ import PARTS, arguments
from tests.bench.part_sizes import TINY
from tests.bench.parts.bursts import bursts, missing_binaries
from tests.bench.processes.servers import floor
from tests.bench.report_rows import Row, markdown, percentile, table
from tests.bench.run import Run
from tests.bench.run_plots import plots, row_of, with_results
from tests.checkout import ROOT

DOCUMENTATION = ROOT / "docs/performance.md"
WITH_RIVAL = Row("verbs", "filter, 500 names, 10 states", "p50 ms", 0.6, 0.4, "floor", 1.5, rivals={"other": 0.9})
ROWS = [
    WITH_RIVAL,
    Row("verbs", "filter, 5,000 names, 10 states", "p50 ms", 2.0, 0.8, "floor", 2.0),
    Row("memory", "20,000 nodes", "MiB", 400.0, aim=500.0),
    Row("growth", "filter, 500 names, 1,000 nodes known", "p50 ms", 1.0, 0.5, "floor"),
    Row("growth", "filter, 500 names, 5,000 nodes known", "p50 ms", 1.1, 0.5, "floor"),
]

MET: dict[str, tuple[Row, bool | None]] = {
    "ratio below the aim": (Row("p", "c", "f", 1.4, 1.0, "floor", 1.5), True),
    "ratio above the aim, value below": (Row("p", "c", "f", 1.4, 0.5, "floor", 1.5), False),
    "no ratio: the value counts": (Row("p", "c", "f", 600.0, aim=500.0), False),
    "a share that must not be smaller": (Row("p", "c", "f", 95.0, 100.0, "instant", 0.9, more_is_better=True), True),
    "a share that is smaller": (Row("p", "c", "f", 70.0, 100.0, "instant", 0.9, more_is_better=True), False),
    "no aim": (Row("p", "c", "f", 1.0, 1.0, "floor"), None),
}


@pytest.mark.parametrize(("row", "met"), MET.values(), ids=MET)
def test_aim_is_compared_with_the_ratio_else_with_the_value(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_percentile_is_a_measured_value() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)


def test_json_has_the_documented_columns() -> None:
    documentation = DOCUMENTATION.read_text()
    assert [column for column in WITH_RIVAL.as_json() if f"`{column}`" not in documentation] == []


def test_every_part_is_documented() -> None:
    documentation = DOCUMENTATION.read_text()
    assert [part for part in PARTS if f"`{part}`" not in documentation] == []


def test_row_survives_json() -> None:
    assert [row_of(json.loads(json.dumps(row.as_json()))) for row in ROWS] == ROWS


def test_table_shows_every_row_and_rival() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table(ROWS))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(text in shown for text in ("other", *(row.case for row in ROWS)))
    assert markdown(ROWS).count("\n") == len(ROWS) + 2


def test_plots_are_drawn_of_what_was_measured() -> None:
    drawn = plots(ROWS)
    assert set(drawn) == {"performance-filter.svg", "performance-growth-nodes.svg"}
    assert all(svg.startswith("<svg") and svg.count("<polyline") >= 1 for svg in drawn.values())


def test_page_gets_the_results_between_its_markers() -> None:
    report = {"at": 0, "machine": {"cores": 2, "python": "3.11", "system": "Linux"}, "rows": [row.as_json() for row in ROWS]}
    page = DOCUMENTATION.read_text()
    written = with_results(page, report)
    assert "| verbs | filter, 500 names, 10 states |" in written
    assert "(pictures/performance-filter.svg)" in written
    assert with_results(written, report) == written, "what was there before is replaced"


@pytest.mark.parametrize("text", ["=http://a", "a=ftp://b/filter", "a", "a=http://b/f,http://c/p", "a=http://b/f,http://b/p,http://b/x"])
def test_unusable_rival_is_refused_with_the_form_to_give(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--rival", text])
    assert "--rival" in capsys.readouterr().err


def test_rival_is_asked_at_its_addresses() -> None:
    found = arguments(["--rival", "hived=http://127.0.0.1:9096/v1/extender/filter"]).rivals[0]
    assert (found.name, found.filter_path, found.prioritize_path) == ("hived", "/v1/extender/filter", None)
    both = arguments(["--rival", "other=http://127.0.0.1:1/filter,http://127.0.0.1:1/prioritize"]).rivals[0]
    assert (both.filter_path, both.prioritize_path) == ("/filter", "/prioritize")


def test_whole_run_on_tiny_clusters_writes_rows_of_every_chosen_part(tmp_path: Path) -> None:
    report, parts = tmp_path / "run.json", {"verbs", "sight", "load", "slots"}
    command = [sys.executable, "-m", "tests.bench", "--tiny", "--json", str(report), *(f"--only={part}" for part in parts)]
    with floor() as other:
        rival = f"other={other.url}/scheduler/filter,{other.url}/scheduler/prioritize"
        done = subprocess.run([*command, "--rival", rival], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads(report.read_text())
    assert {row["part"] for row in content["rows"]} == set(content["seconds"]) == parts
    # The cores for events are a difference of two short measurements: below zero where another process takes the machine.
    assert all(row["value"] >= 0 for row in content["rows"] if row["figure"] != "cores for events")
    assert all(row["rivals"]["other"] > 0 for row in content["rows"] if row["part"] == "verbs" and row["beside_name"] == "floor")
    assert "filter, 50 names" in done.stdout


@pytest.mark.cluster
def test_rate_of_a_real_kube_scheduler_is_measured_beside_an_instant_extender(tmp_path: Path) -> None:
    why = missing_binaries()
    if why is not None:
        pytest.skip(why)
    rows = bursts(Run(TINY, tmp_path, lambda _: None))
    assert [row.case for row in rows] == [f"kube-scheduler, {TINY.cluster_nodes} nodes, {how} bindVerb" for how in ("without", "with")]
    assert all(row.value > 0 and row.beside for row in rows)
