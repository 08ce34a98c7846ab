"""Errors that reach a user. Each carries one sentence saying what is wrong and where."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from topology.hardware import TopologyError


class FabricwiseError(Exception):
    """Base of every error the command line prints as one line."""


class SettingsError(FabricwiseError):
    """A settings file that cannot be used; names the key."""


class ClusterSourceError(FabricwiseError):
    """Cluster state that cannot be had: a bad dump, an API server that refuses."""


class RequestError(FabricwiseError):
    """A request body that cannot be used; becomes the verb's `Error`, or a 400 on the debug API."""


def run_command(command: Callable[[], object]) -> None:
    """Run a command so that every error ends as one line on standard error and an exit status; a bug of ours too."""
    try:
        command()
    except (FabricwiseError, TopologyError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:  # a bug of ours: say so in a line; the traceback is for whoever asks for it
        if os.environ.get("FABRICWISE_TRACEBACK"):
            raise
        print(f"error: internal, {type(error).__name__}: {error}. FABRICWISE_TRACEBACK=1 shows where.", file=sys.stderr)
        sys.exit(70)
