"""`--watch`: an answer that is printed again whenever it changes, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import typer

from extender.cli.rendering.console.output import Names, Output, Table, console, print_warning, rendered
from extender.errors import ClusterSourceError

LEAST_SECONDS, MOST_SECONDS = 1.0, 3600.0
MOST_FAILURES = 10
"""Failed attempts in a row after which a watch ends with the error."""
_SEPARATORS = {Output.YAML: "---\n", Output.TABLE: "\n", Output.WIDE: "\n"}
"""What separates two answers in a pipe; JSON documents and names follow one another."""

INTERVAL_SECONDS = 5.0
"""The default of `--interval`."""


def watching(
    answer: Callable[[], Any],
    output: Output,
    table: Table,
    *,
    wide: Table | None = None,
    names: Names | None = None,
    interval_seconds: float = INTERVAL_SECONDS,
    until: Callable[[Any], bool] = lambda _: False,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Print `answer()` whenever its text has changed, until Ctrl-C or `until(answer)`; returns the last answer.

    On a terminal the new answer replaces the old one; in a pipe it follows it. Ctrl-C is the usual end of a watch, so it is no error.
    A first failure is raised; later ones become a warning each, and the tenth in a row is raised (ClusterSourceError).
    """
    shown: str | None = None
    last: Any = None
    failures = 0
    try:
        while True:
            try:
                last = answer()
                failures = 0
            except ClusterSourceError as error:
                failures += 1
                if shown is None or failures >= MOST_FAILURES:
                    raise
                print_warning(str(error))
            else:
                text = rendered(last, output, table, wide=wide, names=names)
                if text != shown:
                    _show(text, output, is_first=shown is None)
                    shown = text
                if until(last):
                    return last
            sleep(min(max(interval_seconds, LEAST_SECONDS), MOST_SECONDS))
    except KeyboardInterrupt:
        return last


def _show(text: str, output: Output, *, is_first: bool) -> None:
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        console.clear()
    elif not is_first:
        text = _SEPARATORS.get(output, "") + text
    typer.echo(text, nl=False, color=True)
    sys.stdout.flush()
