"""Fault injection: makes steps of the code under test raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


class BrokenError(Exception):
    """The error that an injected fault raises."""


def raising_for(name: str, step: Callable[..., Any], of: Callable[..., str]) -> Callable[..., Any]:
    """Return a function that calls `step`, but raises where `of(*args)` is `name`."""

    def run(*args: Any, **more: Any) -> Any:
        if of(*args) == name:
            raise BrokenError(f"made to fail for {name}")
        return step(*args, **more)

    return run


def break_step(monkeypatch: pytest.MonkeyPatch, module: object, step: str, name: str, of: Callable[..., str]) -> None:
    """Make function `step` of a module raise where `of(*args)` is `name`."""
    monkeypatch.setattr(module, step, raising_for(name, getattr(module, step), of))


class Faulty:
    """A step that raises the first `times` times and works after that."""

    def __init__(self, step: Callable[..., Any], times: int = 1) -> None:
        self.step, self.left, self.calls = step, times, 0

    def __call__(self, *args: Any, **more: Any) -> Any:
        self.calls += 1
        if self.left > 0:
            self.left -= 1
            raise BrokenError("made to fail")
        return self.step(*args, **more)
