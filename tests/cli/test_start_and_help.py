"""The start of a command, before its modules are imported, and its help in a pipe."""

from __future__ import annotations

import subprocess
import sys

import pytest

from extender import __main__ as program


@pytest.mark.parametrize("command", ["slots", "serve", "agent"])
def test_ctrl_c_while_a_command_is_imported_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "import_module", interrupted)
    monkeypatch.setattr(sys, "argv", ["fabricwise", command])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "error: interrupted\n")


@pytest.mark.parametrize("command", ["slots", "serve", "agent", "steer"])
def test_help_of_every_command_has_no_borders_and_no_options_of_completion_in_a_pipe(command: str) -> None:
    arguments = [sys.executable, "-m", "extender", command, "--help"]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    assert f"Usage: fabricwise {command} [OPTIONS]" in ended.stdout.splitlines()[0]
    assert not set("│╭─") & set(ended.stdout)
    assert "--install-completion" not in ended.stdout
