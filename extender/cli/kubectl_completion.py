"""`kubectl_complete-fabricwise`: what kubectl runs to complete the words after `kubectl fabricwise`.

kubectl calls it with the words of the command line, the last of which is being typed and may be empty, and reads one completion a line,
`VALUE<tab>DESCRIPTION`, and a last line `:DIRECTIVE`. Sources: kubectl 1.36, pkg/cmd/plugin/plugin_completion.go; cobra,
shell_completions.md. Nothing is written to standard error and the exit status is 0, so that a failure does not disturb the command line.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import threading
from collections.abc import Iterable

MOST_SECONDS = 3.0
"""After this time there are no completions."""
FILES, NO_FILES = 0, 4
"""Directives: the shell completes file names by itself; it does not."""


def directed(lines: Iterable[str], typed: str) -> list[str]:
    """Return completions as kubectl reads them, with the directive as the last line.

    A completion that equals what is typed is that of a parameter of files, or says nothing new: the shell then completes file names.
    """
    useful = [line for line in lines if line and line.split("\t", 1)[0] != typed]
    return [*useful, f":{NO_FILES if useful else FILES}"]


def completions(words: list[str]) -> list[str]:
    """Return the completions of the last word as lines `VALUE` or `VALUE<tab>DESCRIPTION`: those that Typer has for the shell fish."""
    from extender.cli.app import app

    typed = " ".join(shlex.quote(word) for word in ("fabricwise", *words[:-1], *(word for word in words[-1:] if word)))
    asked = {
        "_FABRICWISE_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COLUMNS": "10000",  # one line per description
        "_TYPER_COMPLETE_ARGS": typed if words and words[-1] else f"{typed} ",
    }
    os.environ.update(asked)  # this process answers one completion
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        app(prog_name="fabricwise")
    return printed.getvalue().splitlines()


def main() -> None:
    """Entry point of `kubectl_complete-fabricwise`."""
    timer = threading.Timer(MOST_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    words = sys.argv[1:]
    with contextlib.suppress(Exception), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        lines = directed(completions(words), words[-1] if words else "")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
