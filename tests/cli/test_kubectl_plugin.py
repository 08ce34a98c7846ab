"""The command as a plugin of kubectl: its name in texts, and completion as kubectl asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from extender.cli.kubectl_completion import FILES, NO_FILES, directed
from tests.checkout import ROOT
from tests.kube.api_server import api_server
from tests.objects import node


def run_as(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an executable of that name, which is how an installed script sets `sys.argv[0]`."""
    code = f"import sys; sys.argv[0] = {program!r}; from extender.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, check=False)


PROGRAMS = {
    "/usr/local/bin/fabricwise": "fabricwise",
    "/home/x/.krew/bin/kubectl-fabricwise": "kubectl fabricwise",
    "kubectl-fabricwise.py": "kubectl fabricwise",
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("command", [("explain",), ("topo", "show"), ("serve",)])
def test_usage_names_the_command_as_it_was_typed(program: str, command: tuple[str, ...]) -> None:
    name = " ".join((PROGRAMS[program], *command))
    assert f"Usage: {name} " in run_as(program, *command, "--help").stdout
    wrong = run_as(program, *command, "--no-such-option")
    assert wrong.returncode == 2
    assert f"({name} --help explains)" in wrong.stderr


PATIENT = "from extender.cli import kubectl_completion as completion; completion.MOST_SECONDS = 600.0; completion.main()"
"""A busy machine does not end the completions of these tests."""


def complete(*words: str) -> list[str]:
    """Return the lines that kubectl reads; the last word is being typed."""
    command = [sys.executable, "-c", PATIENT, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def values(lines: list[str]) -> list[str]:
    """Return the completions without descriptions and directive."""
    assert lines[-1] in (f":{FILES}", f":{NO_FILES}")
    return [line.split("\t")[0] for line in lines[:-1]]


# words -> completions that must be there
COMPLETED: dict[tuple[str, ...], set[str]] = {
    ("",): {"explain", "doctor", "topo"},
    ("top",): {"topo"},
    ("topo", ""): {"show", "import"},
    ("doctor", "--kubec"): {"--kubeconfig"},
    ("doctor", "-o", ""): {"table", "wide", "json", "yaml", "name"},
    ("node", "--cluster", "simulated", "hgx"): {"hgx-h100-0", "hgx-b200-0"},
}


@pytest.mark.parametrize("words", COMPLETED)
def test_words_of_the_command_line_are_completed(words: tuple[str, ...]) -> None:
    lines = complete(*words)
    assert COMPLETED[words] <= set(values(lines))
    assert lines[-1] == f":{NO_FILES}"
    assert all(value.startswith(words[-1]) for value in values(lines))


def test_completion_has_descriptions_of_one_line_each() -> None:
    described = [line for line in complete("doctor", "--") if "\t" in line]
    assert any(line.startswith("--cluster\tkube (the kubeconfig's current context") for line in described)


@pytest.mark.parametrize("words", [("doctor", "--config", ""), ("doctor", "--config", "py"), ("explain", ""), ("no-such-command", "x"), ()])
def test_where_nothing_is_to_be_completed_the_shell_completes_files(words: tuple[str, ...]) -> None:
    lines = complete(*words)
    assert lines[-1] in (f":{FILES}", f":{NO_FILES}")
    if words:
        assert lines == [f":{FILES}"]


@pytest.mark.parametrize("word", ["it's", 'a"b', "a b", "$(x)", "\\", "ü"])
def test_word_with_characters_of_the_shell_is_no_problem(word: str) -> None:
    assert complete("doctor", "--cluster", word) == [f":{FILES}"]
    assert "hgx-h100-0" in values(complete("node", "--config", word, "--cluster", "simulated", ""))


def test_nodes_namespaces_and_contexts_come_from_the_cluster_of_the_named_context(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with api_server(tmp_path) as first, api_server(tmp_path / "other") as second:
        first.add(node("gpu-1"))
        second.add(node("gpu-2"))
        second.lists["/api/v1/namespaces"] = [{"metadata": {"name": name}} for name in ("team-a", "team-b", "kube-system")]
        merged = yaml.safe_load(first.kubeconfig.read_text())
        other = yaml.safe_load(second.kubeconfig.read_text())
        merged["clusters"].append({"name": "other", "cluster": other["clusters"][0]["cluster"]})
        merged["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "t"}})
        path = tmp_path / "merged"
        path.write_text(yaml.safe_dump(merged))
        here = ("--kubeconfig", str(path))
        assert values(complete("node", *here, "")) == ["gpu-1"]
        assert values(complete("node", *here, "--context", "other", "")) == ["gpu-2"]
        assert values(complete("explain", *here, "--context", "")) == ["t", "other"]
        assert values(complete("explain", *here, "--context", "other", "-n", "team")) == ["team-a", "team-b"]


@pytest.mark.parametrize("kubeconfig", ["nowhere", "/dev/null", "/"])
def test_completion_of_a_cluster_that_cannot_be_read_is_silent(kubeconfig: str) -> None:
    assert complete("node", "--kubeconfig", kubeconfig, "") == [f":{FILES}"]


SLOW = """
import sys, threading
from extender.cli import kubectl_completion as completion
completion.MOST_SECONDS = 0.01
completion.completions = lambda words: threading.Event().wait()
completion.main()
"""


def test_completion_that_takes_too_long_ends_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


DIRECTED: dict[str, tuple[list[str], str, list[str]]] = {
    "some": (["a\tfirst", "ab"], "", ["a\tfirst", "ab", ":4"]),
    "none": ([], "x", [":0"]),
    "only what is typed": (["x"], "x", [":0"]),
    "an empty line": (["", "a"], "", ["a", ":4"]),
}


@pytest.mark.parametrize("case", DIRECTED)
def test_directive_is_the_last_line(case: str) -> None:
    lines, typed, expected = DIRECTED[case]
    assert directed(lines, typed) == expected


def test_both_executables_are_installed_with_the_package() -> None:
    scripts = ROOT.joinpath("pyproject.toml").read_text()
    assert 'kubectl-fabricwise = "extender.__main__:main"' in scripts
    assert 'kubectl_complete-fabricwise = "extender.cli.kubectl_completion:main"' in scripts
