"""Errors that reach a user. Each carries one sentence saying what is wrong and where."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from extender.plain_text import plain
from topology.machine.hardware import TopologyError

FINE, FOUND, USAGE, COULD_NOT_ASK = 0, 1, 2, 3
"""Exit statuses of every command: all is well; the answer is a problem (a check fails, no node is feasible); the command line is wrong;
there is no answer, because something could not be read, reached or understood."""
EXIT_STATUSES = (
    "Exit status: 0 all is well; 1 a problem was found (a check fails, no node is feasible); 2 wrong usage; "
    "3 no answer: a file, a cluster or a server could not be read or understood."
)


class FabricwiseError(Exception):
    """Base of every error the command line prints as one line."""


class SettingsError(FabricwiseError):
    """A settings file that cannot be used; names the key."""


class ClusterSourceError(FabricwiseError):
    """Cluster state that cannot be had: a bad dump, an API server that refuses."""


class RequestError(FabricwiseError):
    """A request body that cannot be used; becomes the verb's `Error`, or a 400 on the debug API."""


def run_command(app: Callable[..., object]) -> None:
    """Run a command-line application so that every error ends as one line on standard error and an exit status; a bug of ours too.

    The line is plain text: an error repeats names and arguments that were written by others.
    """
    try:
        status = app(standalone_mode=False)
    except (FabricwiseError, TopologyError) as error:
        _end(COULD_NOT_ASK, f"error: {error}")
    except BrokenPipeError:
        sys.exit(141)
    except KeyboardInterrupt:
        _end(130, "error: interrupted")
    except Exception as error:  # a wrong usage, or a bug of ours, whose traceback is shown only where it is asked for
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
    """The line about a wrong usage of a command; None for another error. The empty string where the help has been printed."""
    import typer  # only here: not every process that knows these errors has a command line

    wrong_usage = typer.BadParameter.__mro__[1]  # UsageError, which typer does not export
    if isinstance(error, typer.Abort):
        return "error: aborted"
    if not isinstance(error, wrong_usage):
        return None
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # making the error has printed the help already, or its text is the help
        return ""
    command = context.command_path if context is not None else "fabricwise"
    return f"error: {error.format_message()} ({command} --help explains)"  # type: ignore[attr-defined]
