"""The habits of all commands: formats of -o, colour only where a terminal shows it, progress of long work, --watch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.text import Text

from extender.cli.rendering.console import progress as progress_module
from extender.cli.rendering.console import watching as watching_module
from extender.cli.rendering.console.output import Output, rendered
from extender.cli.rendering.console.progress import progress
from extender.cli.rendering.console.watching import MOST_FAILURES, watching
from extender.errors import ClusterSourceError
from tests.cli.commands import Commands
from tests.exporters import dcgm_text, used
from tests.objects import node, pod
from tests.terminal import on_a_terminal

MODEL = json.dumps({"layers": 2, "hidden_size": 64, "attention_heads": 4, "kv_heads": 4, "head_size": 16, "parameters": 1_000_000})
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9](;[0-9]+)*m")
"""A sequence that sets a colour of the text."""


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files by name: a pod, a cluster of one good and one bad node, an exposition."""
    bad = node("bad") | {"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}}
    bad["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    texts = {
        "pod.yaml": yaml.safe_dump(pod(2)),
        "cluster.yaml": yaml.safe_dump({"kind": "List", "items": [node("good"), bad]}),
        "metrics": dcgm_text({"GPU-a": used(60_000), "GPU-b": used(1)}),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: str(tmp_path / name) for name in texts}


# command -> the lines of -o name
NAMES: dict[tuple[str, ...], list[str]] = {
    ("explain", "pod.yaml", "--cluster", "cluster.yaml"): ["node/good"],
    ("node", "good", "--cluster", "cluster.yaml"): ["node/good"],
    ("telemetry", "metrics"): ["gpu/GPU-a", "gpu/GPU-b"],
    ("fit", "--model", MODEL, "--cluster", "simulated", "--tp", "16"): [],
}


@pytest.mark.parametrize("command", NAMES)
def test_names_are_one_object_a_line(files: dict[str, str], fabricwise: Commands, command: tuple[str, ...]) -> None:
    ended = fabricwise(*(files.get(word, word) for word in command), "-o", "name")
    assert ended.out.splitlines() == NAMES[command]


def test_doctor_names_the_nodes_on_which_a_check_fails(files: dict[str, str], fabricwise: Commands) -> None:
    found = set()
    for cluster in (files["cluster.yaml"], "simulated"):
        cards = json.loads(fabricwise("doctor", "--cluster", cluster, "-o", "json").out)["nodes"]
        failed = [f"node/{card['node']}" for card in cards if card["status"] == "fail"]
        assert fabricwise("doctor", "--cluster", cluster, "-o", "name").out.splitlines() == failed
        found |= {card["status"] == "fail" for card in cards}
    assert found == {True, False}


def test_names_of_workload_classes_and_of_nodes_that_a_model_fits(fabricwise: Commands) -> None:
    named = fabricwise("classes", "list", "-f", "config/workload-classes.yaml", "-o", "name").out.splitlines()
    assert "workloadclass/notebook" in named
    assert "node/hgx-h100-0" in fabricwise("fit", "--model", MODEL, "--cluster", "simulated", "-o", "name").out.splitlines()


@pytest.mark.parametrize("command", [("fit", "--model", MODEL), ("topo", "show", "t4"), ("topo", "show", "t4", "--all-sets")])
def test_answer_without_names_of_objects_is_a_usage_error_that_lists_the_formats(fabricwise: Commands, command: tuple[str, ...]) -> None:
    ended = fabricwise(*command, "-o", "name")
    assert (ended.status, ended.out) == (2, "")
    assert all(word in ended.err for word in ("table", "wide", "json", "yaml"))


def test_name_that_holds_a_control_character_is_printed_as_an_escape() -> None:
    assert rendered({}, Output.NAME, lambda _: "", names=lambda _: ["node/a\nb"]) == "node/a\\nb\n"


def test_wide_leaves_out_no_column_on_a_narrow_terminal(files: dict[str, str]) -> None:
    command = ("-m", "extender", "telemetry", files["metrics"], "-o")
    narrow, wide = (on_a_terminal(*command, output, columns=50) for output in ("table", "wide"))
    assert "not shown, because the terminal is too narrow" in narrow
    assert "(-o wide shows all)" in " ".join(narrow.split())
    assert "not shown" not in wide
    for column in ("used GiB", "free GiB", "busy", "unknown"):
        assert column in wide
        assert wide.count("GPU-a") == 1


# environment -> whether a table on a terminal has colours
ON_A_TERMINAL: dict[str, tuple[dict[str, str], bool]] = {
    "an ordinary terminal": ({}, True),
    "NO_COLOR": ({"NO_COLOR": "1"}, False),
    "a dumb terminal": ({"TERM": "dumb"}, False),
    "NO_COLOR is stronger than FORCE_COLOR": ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
}


@pytest.mark.parametrize("case", ON_A_TERMINAL)
def test_tables_have_colours_on_a_terminal_that_shows_them(files: dict[str, str], case: str) -> None:
    environment, coloured = ON_A_TERMINAL[case]
    text = on_a_terminal("-m", "extender", "doctor", "--cluster", files["cluster.yaml"], environment=environment)
    assert "2 nodes with GPUs" in text
    assert (COLOUR.search(text) is not None) == coloured


@pytest.mark.parametrize(("environment", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True)])
def test_tables_in_a_pipe_are_plain_and_do_not_fold_unless_colour_is_forced(
    files: dict[str, str], environment: dict[str, str], coloured: bool
) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    command = [sys.executable, "-m", "extender", "doctor", "--cluster", files["cluster.yaml"]]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=60, check=False)
    assert (COLOUR.search(done.stdout) is not None) == coloured
    assert ("\x1b" in done.stdout) == coloured
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines())) > 80


def test_json_has_no_colours_on_a_terminal(files: dict[str, str]) -> None:
    text = on_a_terminal("-m", "extender", "doctor", "--cluster", files["cluster.yaml"], "-o", "json", environment={"FORCE_COLOR": "1"})
    assert {card["node"] for card in json.loads(text)["nodes"]} == {"good", "bad"}


LONG_WORK = """
from extender.cli.rendering.console.progress import progress
import time
with progress("reading [bold]\\x1b[31mthings") as shown:
    shown.start()
print("done")
"""


def test_progress_of_long_work_is_shown_on_a_terminal_as_plain_text_and_removed() -> None:
    text = on_a_terminal("-c", LONG_WORK)
    assert "reading [bold]\\x1b[31mthings" in text
    assert text.endswith("done\n")
    assert "\x1b[2K" in text.split("things")[-1], "the line is erased"


def test_short_work_shows_nothing_on_a_terminal() -> None:
    long_wait = "import extender.cli.rendering.console.progress as p\np.SHOWN_AFTER_SECONDS = 3600\n"
    assert on_a_terminal("-c", long_wait + LONG_WORK.replace("shown.start()", "pass")) == "done\n"


def test_progress_in_a_pipe_starts_no_thread_and_prints_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "SHOWN_AFTER_SECONDS", 0.0)
    threads = threading.active_count()
    with progress("reading"):
        assert threading.active_count() == threads
    assert capsys.readouterr() == ("", "")


def sequence(*answers: Any) -> Callable[[], Any]:
    """Return a function that gives one answer after another; exceptions among them are raised."""
    left: Iterator[Any] = iter(answers)

    def answer() -> Any:
        found = next(left)
        if isinstance(found, BaseException):
            raise found
        return found

    return answer


def table(answer: Any) -> Text:
    return Text(f"count {answer['count']}")


ONE, TWO = {"count": 1, "age_seconds": 3}, {"count": 2, "age_seconds": 9}
CTRL_C = KeyboardInterrupt()
FAILURE = ClusterSourceError("no contact; try again")


def watched(*answers: Any, output: Output = Output.TABLE, **options: Any) -> Any:
    return watching(sequence(*answers), output, table, sleep=lambda _: None, **options)


def test_watch_prints_an_answer_again_only_if_its_text_has_changed_and_ends_with_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(ONE, ONE | {"age_seconds": 4}, TWO, TWO, ONE, CTRL_C) == ONE
    assert capsys.readouterr().out == "count 1\n\ncount 2\n\ncount 1\n"


def test_watch_in_json_prints_documents_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    watched(ONE, TWO, CTRL_C, output=Output.JSON)
    decoder, text, documents = json.JSONDecoder(), capsys.readouterr().out, []
    while text.strip():
        document, end = decoder.raw_decode(text.lstrip())
        documents.append(document)
        text = text.lstrip()[end:]
    assert documents == [ONE, TWO]
    watched(ONE, TWO, CTRL_C, output=Output.YAML)
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [ONE, TWO]


def test_watch_ends_once_the_answer_is_the_one_that_was_waited_for() -> None:
    assert watched(ONE, TWO, AssertionError("not asked again"), until=lambda answer: bool(answer["count"] == 2)) == TWO


def test_first_failure_of_a_watch_is_an_error() -> None:
    with pytest.raises(ClusterSourceError):
        watched(FAILURE)


def test_later_failures_of_a_watch_are_warnings_until_there_are_too_many_in_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    some = [FAILURE] * (MOST_FAILURES - 1)
    watched(ONE, *some, TWO, *some, CTRL_C)
    assert capsys.readouterr().err.count("warning: no contact") == 2 * len(some)
    with pytest.raises(ClusterSourceError):
        watched(ONE, *some, FAILURE)


@pytest.mark.parametrize(("wanted", "slept"), [(0.0, watching_module.LEAST_SECONDS), (7.0, 7.0), (1e9, watching_module.MOST_SECONDS)])
def test_interval_of_a_watch_is_bounded(wanted: float, slept: float) -> None:
    pauses: list[float] = []
    watching(sequence(ONE, CTRL_C), Output.TABLE, table, interval_seconds=wanted, sleep=pauses.append)
    assert pauses == [slept]


def test_doctor_node_and_explain_can_be_watched(files: dict[str, str], fabricwise: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    defaults = dict(watching.__kwdefaults__ or {})
    monkeypatch.setattr(watching, "__kwdefaults__", defaults | {"sleep": interrupted})
    for command in (("doctor",), ("node", "bad"), ("explain", files["pod.yaml"])):
        ended = fabricwise(*command, "--cluster", files["cluster.yaml"], "--watch", "-o", "json")
        assert ended.status == 0, command
        assert json.loads(ended.out)


def test_names_of_an_answer_without_names_are_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="has no names"):
        rendered({}, Output.NAME, table)
