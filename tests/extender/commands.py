"""Running `fabricwise` commands in this process, as a user would see them end."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from extender.cli import app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Commands:
    """Runs commands; nothing of a traceback may reach standard error."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Ended:
        """`fabricwise ARGUMENTS...`"""
        self.monkeypatch.setattr(sys, "argv", ["fabricwise", *arguments])
        status = 0
        try:
            app.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        told = self.capsys.readouterr()
        assert "Traceback" not in told.err
        return Ended(status, told.out, told.err)
