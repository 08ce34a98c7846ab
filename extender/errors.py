"""Errors that reach a user. The text of each says what is wrong, where, and what helps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from extender.plain_text import plain
from topology.machine.hardware import TopologyError

FINE, FOUND, USAGE, COULD_NOT_ASK = 0, 1, 2, 3
"""Exit statuses of every command: no problem; a problem was found (a check fails, no node is feasible); wrong usage; no answer, because
a file, a cluster or a server could not be read, reached or understood."""
EXIT_STATUSES = (
    "Exit status: 0 all is well; 1 a problem was found (a check fails, no node is feasible); 2 wrong usage; "
    "3 no answer: a file, a cluster or a server could not be read or understood."
)


class FabricwiseError(Exception):
    """Base of every error that the command line prints as one line."""


class SettingsError(FabricwiseError):
    """Settings that cannot be used; the text names the key."""


class ClusterSourceError(FabricwiseError):
    """Cluster state that cannot be read, for example from an invalid dump or an API server that refuses."""


class RequestError(FabricwiseError):
    """A request that cannot be used; becomes the `Error` field of a verb's answer, or a 400 of the debug API."""


PLUGIN = "kubectl-fabricwise"
"""The name by which kubectl finds the command as its plugin."""


def program_name() -> str:
    """Return the command as it was typed, for usage lines: `kubectl fabricwise` for the plugin, else `fabricwise`."""
    return "kubectl fabricwise" if Path(sys.argv[0]).name.startswith(PLUGIN) else "fabricwise"


def run_command(app: Callable[..., object]) -> None:
    """Run a command-line application. Every error, internal ones included, becomes one line on standard error and an exit status.

    The line is plain text, because an error repeats names and arguments from outside.
    """
    try:
        status = app(standalone_mode=False)
    except (FabricwiseError, TopologyError) as error:
        _end(COULD_NOT_ASK, f"error: {error}")
    except BrokenPipeError:
        sys.exit(141)
    except KeyboardInterrupt:
        _end(130, "error: interrupted")
    except Exception as error:  # wrong usage, or a bug, whose traceback is shown only on request
        usage = _usage(error)
        if usage is not None:
            _end(USAGE, usage)
        if os.environ.get("FABRICWISE_TRACEBACK"):
            raise
        _end(70, f"error: internal, {type(error).__name__}: {error}. FABRICWISE_TRACEBACK=1 shows where.")
    else:
        if isinstance(status, int):
            sys.exit(status)


def _end(status: int, line: str) -> None:
    if line:
        print(plain(line), file=sys.stderr)
    sys.exit(status)


def _usage(error: Exception) -> str | None:
    """Return the line about a wrong usage of a command; None for other errors; the empty string if the help has been printed."""
    import typer  # only here, because processes without a command line import this module too

    wrong_usage = typer.BadParameter.__mro__[1]  # UsageError, which typer does not export
    if isinstance(error, typer.Abort):
        return "error: aborted"
    if not isinstance(error, wrong_usage):
        return None
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # its constructor has printed the help already
        return ""
    command = context.command_path if context is not None else program_name()
    return f"error: {error.format_message()} ({command} --help explains)"  # type: ignore[attr-defined]
