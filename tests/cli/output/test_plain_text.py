"""Text from outside reaches a terminal as plain text: no markup is read, no control character gets through, in tables, errors and logs."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from extender.cli.rendering.console.output import PlainConsole
from extender.cli.rendering.machines.svg import draw
from extender.logs import PlainFormatter
from extender.plain_text import plain, plain_data
from tests.checkout import ROOT
from tests.cli.commands import Commands, Ended
from tests.exporters import dcgm_text, used
from tests.machines import matrix_text
from tests.objects import node, pod, topology
from topology.platforms import machine_of

HOSTILE = {
    "a closing tag": "[/x]",
    "a style": "[bold]",
    "a link": "[link=https://x.example]here[/link]",
    "an emoji name": ":pile_of_poo:",
    "a backslash before a tag": "\\[/x]",
    "an escape sequence": "\x1b[31mred",
    "a window title": "\x1b]0;title\x07",
    "a C1 control": "\x9b31m",
    "a carriage return": "seen\rforged",
    "a backspace": "ab\x08\x08cd",
    "a further line": "one\nerror: forged",
    "a right-to-left override": "\u202egpj.exe",
    "an isolate": "\u2066x",
    "a zero width space": "a\u200bb",
    "a line separator": "a\u2028b",
}
SHOWN = {
    "a closing tag": "[/x]",
    "a style": "[bold]",
    "an escape sequence": "\\x1b[31mred",
    "a right-to-left override": "\\u202egpj.exe",
}


def is_plain(text: str) -> bool:
    """Whether a terminal shows the text without acting on it."""
    return all(character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> str:
    return HOSTILE[request.param]


def cluster_of(text: str, folder: Path) -> str:
    """A dump in which every text from outside is hostile."""
    named = node(f"n{text}", product=f"NVIDIA {text}", memory_mib=81920, labels={"nvidia.com/gpu.count": text, text: text})
    named["spec"] = {"taints": [{"key": text, "effect": text}]}
    named["status"]["conditions"] = [{"type": text, "status": text}, {"type": "Ready", "status": text}]
    holder = pod(1, name=f"p{text}", node=f"n{text}", annotations={"fabricwise.dev/min-busbw": text})
    bad = topology("other", "l40s")
    bad["spec"]["cpuModel"] = text
    bad["metadata"]["name"] = f"n{text}"
    path = folder / "cluster.json"
    path.write_text(json.dumps({"kind": "List", "items": [named, node("other"), topology("other", "hgx-h100"), bad, holder]}))
    return str(path)


def wanted(text: str, folder: Path) -> str:
    """A pod in which every text is hostile; its annotations are valid."""
    manifest = pod(2, name=f"new{text}")
    manifest["metadata"]["namespace"] = text
    manifest["spec"]["containers"][0] |= {
        "name": text,
        "image": "vllm/vllm-openai",
        "args": ["--model", text, "--tensor-parallel-size", "8"],
    }
    path = folder / "pod.json"
    path.write_text(json.dumps(manifest))
    return str(path)


def annotated(text: str, folder: Path) -> str:
    """A pod with hostile annotations."""
    path = folder / "annotated.json"
    path.write_text(json.dumps(pod(2, annotations={"fabricwise.dev/min-gpu-memory": text, "fabricwise.dev/workload-class": text})))
    return str(path)


def model_of(text: str) -> str:
    shape = {"layers": 2, "hidden_size": 64, "attention_heads": 4, "kv_heads": 4, "head_size": 16, "parameters": 1_000_000}
    return json.dumps({**shape, "name": text})


def exposition_of(text: str, folder: Path) -> str:
    path = folder / "metrics.txt"
    label = text.replace("\\", "\\\\").replace("\n", "\\n")
    engine = f'vllm:num_requests_running{{model_name="{label}"}} 1\nvllm:num_requests_waiting{{model_name="{label}"}} 1\n'
    path.write_text(dcgm_text({f"GPU-{label}": used(60_000)}) + engine + f"{text} not a sample\n", newline="")
    return str(path)


def classes_of(text: str, folder: Path) -> str:
    shipped = yaml.safe_load((ROOT / "config/workload-classes.yaml").read_text())
    path = folder / f"classes{text.replace('/', '')}.yaml"
    path.write_text(yaml.safe_dump(shipped))
    return str(path)


def matrix_of(text: str, folder: Path) -> str:
    path = folder / f"matrix{text.replace('/', '')}.txt"
    path.write_text(matrix_text(machine_of("l40s")))
    return str(path)


TABLES: dict[str, Callable[[str, Path], list[str]]] = {
    "explain": lambda text, folder: ["explain", wanted(text, folder), "--cluster", cluster_of(text, folder)],
    "explain annotations": lambda text, folder: ["explain", annotated(text, folder), "--cluster", cluster_of(text, folder)],
    "node": lambda text, folder: ["node", f"n{text}", "--cluster", cluster_of(text, folder)],
    "doctor": lambda text, folder: ["doctor", "--cluster", cluster_of(text, folder)],
    "fit": lambda text, folder: ["fit", "--model", model_of(text), "--cluster", cluster_of(text, folder)],
    "topo show of a node": lambda text, folder: ["topo", "show", f"n{text}", "--cluster", cluster_of(text, folder)],
    "topo show of a file": lambda text, folder: ["topo", "show", matrix_of(text, folder), "--product", text, "--cpu", text],
    "topo show --all-sets": lambda text, folder: ["topo", "show", matrix_of(text, folder), "--all-sets"],
    "topo show -o svg": lambda text, folder: ["topo", "show", matrix_of(text, folder), "--product", text, "-o", "svg"],
    "topo import": lambda text, folder: ["topo", "import", matrix_of(text, folder), "--node", "n", "--product", text],
    "telemetry": lambda text, folder: ["telemetry", exposition_of(text, folder)],
    "classes list": lambda text, folder: ["classes", "list", "-f", classes_of(text, folder)],
    "classes render": lambda text, folder: ["classes", "render", "-f", classes_of(text, folder), "--scheduler", text],
}


def ended_plainly(ended: Ended) -> bool:
    return is_plain(ended.out) and is_plain(ended.err) and "internal" not in ended.err and ended.status in (0, 1, 2, 3)


@pytest.mark.parametrize("command", TABLES)
def test_every_commands_output_shows_hostile_text_as_plain_text(fabricwise: Commands, tmp_path: Path, command: str, hostile: str) -> None:
    ended = fabricwise(*TABLES[command](hostile, tmp_path))
    assert ended_plainly(ended), ended
    assert "\nerror: forged" not in ended.out


@pytest.mark.parametrize("name", SHOWN)
def test_a_table_shows_a_hostile_name_in_full(fabricwise: Commands, tmp_path: Path, name: str) -> None:
    ended = fabricwise("explain", wanted(HOSTILE[name], tmp_path), "--cluster", cluster_of(HOSTILE[name], tmp_path))
    assert f"n{SHOWN[name]}" in ended.out
    assert f"new{SHOWN[name]} asks for 2 GPUs" in ended.out
    assert f"inferred: model {SHOWN[name]}" in ended.out


MISTAKES: dict[str, Callable[[str, Path], list[str]]] = {
    "a file that is not there": lambda text, _: ["explain", f"nowhere{text}"],
    "a cluster that is none": lambda text, _: ["doctor", "--cluster", text],
    "a node that is none": lambda text, folder: ["node", f"absent{text}", "--cluster", cluster_of(text, folder)],
    "a server that is none": lambda text, _: ["doctor", "--server", text],
    "a kubeconfig that is none": lambda text, _: ["dump", "--kubeconfig", f"nowhere{text}"],
    "an option that is none": lambda text, _: ["explain", f"--{text}"],
    "a value that is none": lambda text, _: ["explain", "x", "-o", text],
    "a command that is none": lambda text, _: [f"x{text}"],
    "GPUs that are no list": lambda text, _: ["topo", "show", "t4", "--gpus", text],
    "a platform that is none": lambda text, _: ["topo", "show", f"x{text}"],
    "a model that is none": lambda text, _: ["fit", "--model", text],
    "memory that is none": lambda text, folder: ["topo", "show", matrix_of(text, folder), "--memory", text],
    "metrics that are none": lambda text, folder: ["telemetry", pods_metrics(text, folder)],
    "a pod of another kind": lambda text, folder: ["explain", of_kind(text, folder)],
    "settings with an unknown key": lambda text, folder: ["doctor", "--cluster", "simulated", "--config", settings_with(text, folder)],
}


def pods_metrics(text: str, folder: Path) -> str:
    path = folder / "other.txt"
    path.write_text(f"{text} 1\n", newline="")
    return str(path)


def of_kind(text: str, folder: Path) -> str:
    path = folder / "kind.json"
    path.write_text(json.dumps({"kind": text, "metadata": {"name": text}, "spec": {}}))
    return str(path)


def settings_with(text: str, folder: Path) -> str:
    path = folder / "settings.json"
    path.write_text(json.dumps({text: 1}))
    return str(path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_error_shows_hostile_text_as_plain_text_on_one_line(fabricwise: Commands, tmp_path: Path, mistake: str, hostile: str) -> None:
    ended = fabricwise(*MISTAKES[mistake](hostile, tmp_path))
    assert ended_plainly(ended), ended
    assert (ended.status in (2, 3), ended.err.startswith("error: "), ended.err.count("\n")) == (True, True, 1), ended


def test_name_that_is_not_valid_text_is_shown_as_bytes(fabricwise: Commands) -> None:
    ended = fabricwise("explain", "pod\udcff.yaml")
    assert (ended.status, "pod\\udcff.yaml: No such file" in ended.err) == (3, True)


@given(st.text())
def test_plain_has_no_character_that_a_terminal_acts_on_and_keeps_plain_text(text: str) -> None:
    assert is_plain(plain(text))
    assert plain(plain(text)) == plain(text)
    assert (plain(text) == text) == (is_plain(text) and "\n" not in text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_plain_data_has_the_shape_of_the_data(value: Any) -> None:
    def texts(of: Any) -> Iterator[str]:
        if isinstance(of, str):
            yield of
        elif isinstance(of, dict):
            for key, inner in of.items():
                yield key
                yield from texts(inner)
        elif isinstance(of, list):
            for inner in of:
                yield from texts(inner)

    assert all(is_plain(text) and "\n" not in text for text in texts(plain_data(value)))
    assert json.loads(json.dumps(plain_data(value))) == plain_data(value)


def _table(text: str) -> Table:
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    return table


@pytest.mark.parametrize("build", [lambda text: text, Text, lambda text: Text(text, "bold"), _table])
def test_console_prints_no_control_character_from_any_kind_of_renderable(build: Callable[[str], Any], hostile: str) -> None:
    file = io.StringIO()
    PlainConsole(file=file, width=300).print(build(hostile))
    assert is_plain(file.getvalue())


def test_a_log_line_is_plain_and_cannot_forge_another(hostile: str) -> None:
    record = logging.LogRecord("fabricwise", logging.WARNING, "x.py", 1, "skipped: %s", (hostile,), None)
    line = PlainFormatter().format(record)
    assert is_plain(line)
    assert "\n" not in line


def test_a_drawing_holds_hostile_names_as_text(hostile: str) -> None:
    from xml.etree import ElementTree

    drawing = draw(hostile, machine_of("l40s"), 1)
    assert is_plain(drawing)
    assert ElementTree.fromstring(drawing)[0].text == plain(hostile)
