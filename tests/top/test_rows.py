"""Which rows are shown, in which order, and what their cells say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cli.top.rows import (
    NODE_COLUMNS,
    POD_COLUMNS,
    Arrangement,
    age_of,
    arranged,
    bar,
    gpu_letters,
    headline,
    memory_bar,
    name_of_pod,
    natural,
)
from tests.top.canned_answers import node_row, pod_row

TITLES = [column.title for column in NODE_COLUMNS]
POD_TITLES = [column.title for column in POD_COLUMNS]


def names(rows: list[Any], **arrangement: Any) -> list[str]:
    return [row["name"] for row in arranged(rows, NODE_COLUMNS, Arrangement(**arrangement), lambda row: str(row["name"]))]


def test_numbers_in_names_are_ordered_as_numbers() -> None:
    assert names([node_row("gpu-10"), node_row("gpu-9"), node_row("gpu-2b")]) == ["gpu-2b", "gpu-9", "gpu-10"]


@given(st.lists(st.text(max_size=12)))
def test_any_names_can_be_ordered(texts: list[str]) -> None:
    assert sorted(sorted(texts, key=natural, reverse=True), key=natural) == sorted(texts, key=natural)


@pytest.mark.parametrize(
    ("is_reversed", "order"),
    [pytest.param(False, ["b", "a", "c", "u"], id="most-first"), pytest.param(True, ["c", "a", "b", "u"], id="least-first")],
)
def test_unknown_values_come_last_in_both_directions(is_reversed: bool, order: list[str]) -> None:
    rows = [node_row("a", pressure=0.5), node_row("u", pressure=None), node_row("b", pressure=0.9), node_row("c", pressure=0.0)]
    assert names(rows, column=TITLES.index("PRESSURE"), is_reversed=is_reversed) == order


@pytest.mark.parametrize(
    ("search", "kept"),
    [
        pytest.param("GPU-A", ["gpu-a"], id="case-does-not-matter"),
        pytest.param("a100", ["gpu-b"], id="other-column"),
        pytest.param("cordoned", ["gpu-b"], id="shown-reason"),
        pytest.param("", ["gpu-a", "gpu-b"], id="nothing"),
        pytest.param("absent", [], id="no-row"),
    ],
)
def test_search_keeps_rows_with_the_text_in_a_cell(search: str, kept: list[str]) -> None:
    rows = [node_row("gpu-a"), node_row("gpu-b", product="A100", why_unschedulable="cordoned")]
    assert names(rows, search=search) == kept


def test_search_finds_the_message_of_a_pending_pod() -> None:
    rows = [pod_row("waits", state="pending", message="0/3 nodes are available: 3 Insufficient cpu."), pod_row("runs")]
    assert [row["name"] for row in arranged(rows, POD_COLUMNS, Arrangement(search="insufficient"), name_of_pod)] == ["waits"]


@pytest.mark.parametrize(
    ("floor", "real", "is_marked"),
    [(200.0, 40.0, True), (40.0, 200.0, False), (None, 40.0, False), (200.0, None, False)],
)
def test_bandwidth_below_the_floor_is_marked(floor: float | None, real: float | None, is_marked: bool) -> None:
    cell = POD_COLUMNS[POD_TITLES.index("GB/s")].cell(pod_row("pod", floor_gbps=floor, busbw_gbps=real))
    assert ("red" in str(cell.style)) is is_marked


def test_unknown_is_shown_as_unknown() -> None:
    row = pod_row("pod", devices=None, busbw_gbps=None, expected_gbps=None, node=None)
    cells = {column.title: column.cell(row).plain for column in POD_COLUMNS}
    assert [cells[title] for title in ("NODE", "DEVICES", "GB/s", "EXPECTED", "FLOOR")] == ["-"] * 5
    assert bar(None).plain == "-"


def test_letters_of_gpus_are_the_answer_without_control_characters() -> None:
    assert gpu_letters(node_row("a", states="tf\x1b[2J")).plain == "tf\\x1b[2J"


def test_names_are_neither_markup_nor_control_characters() -> None:
    cell = NODE_COLUMNS[0].cell(node_row("[red]x[/red]\x1b[2J"))
    assert cell.plain == "[red]x[/red]\\x1b[2J"


@pytest.mark.parametrize(
    ("cluster", "seconds", "text", "is_stale"),
    [
        pytest.param({"state_age_seconds": 0.0, "synced": True}, 2.0, "data 2 s old", False, id="fresh"),
        pytest.param({"state_age_seconds": 60.0, "synced": True}, 2.0, "data 62 s old", True, id="watch-lost"),
        pytest.param({"state_age_seconds": 0.0, "synced": True}, 40.0, "data 40 s old", True, id="no-answer"),
        pytest.param({"synced": False, "missing": ["pods"]}, 0.0, "not listed yet: pods", True, id="not-listed"),
    ],
)
def test_age_of_the_data_says_when_it_is_too_old(cluster: dict[str, Any], seconds: float, text: str, is_stale: bool) -> None:
    age = age_of(cluster, seconds)
    assert age.plain == text
    assert ("bold" in str(age.style)) is is_stale


def test_headline_has_the_states_that_occur() -> None:
    line = headline({"cluster": "prod", "totals": {"nodes": 2, "gpus": 16, "free": 6, "taken": 10, "excluded": 0}, "pending": 3})
    assert line.plain == "prod · 2 nodes · 16 GPUs: 6 free, 10 taken · 3 pods pending"


@pytest.mark.parametrize(
    ("used_gib", "unknown_gib", "text"),
    [
        pytest.param(40, 0, "██████░░░░░░  50% of 80 GiB", id="known"),
        pytest.param(60, 60, "▓▓▓▓▓▓▓▓▓░░░  75% of 80 GiB", id="unknown"),
        pytest.param(80, 20, "█████████▓▓▓ 100% of 80 GiB", id="both"),
        pytest.param(40, None, "██████░░░░░░  50% of 80 GiB", id="not-divided"),
        pytest.param(None, None, "-", id="no-telemetry"),
    ],
)
def test_memory_of_unknown_processes_has_a_sign_of_its_own(used_gib: int | None, unknown_gib: int | None, text: str) -> None:
    used, unknown = (None if gib is None else gib << 30 for gib in (used_gib, unknown_gib))
    assert memory_bar(80 << 30, used, unknown).plain == text
