"""Runs `fabricwise` commands in this process, and returns what a user would see."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from extender.cli import app


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    status: int
    out: str
    err: str


@dataclass
class Commands:
    """Runs commands; fails if a traceback reaches standard error."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Ended:
        """Run `fabricwise ARGUMENTS...`."""
        self.monkeypatch.setattr(sys, "argv", ["fabricwise", *arguments])
        status = 0
        try:
            app.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ended(status, captured.out, captured.err)
