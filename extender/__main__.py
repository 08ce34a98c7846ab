"""The `fabricwise` command, which is also installed as `kubectl-fabricwise`: kubectl runs that as `kubectl fabricwise`.

The commands that run as long as a node or a cluster (`agent`, `steer`, `serve`) import no other command: their memory stays small.
"""

from __future__ import annotations

import sys
from importlib import import_module

from extender.errors import program_name, run_command

ALONE = {
    "agent": "extender.cli.commands.services.agent",
    "serve": "extender.cli.commands.services.serve",
    "steer": "extender.steering.command",
}
"""Command -> the module whose `app` runs it alone."""


OTHERS = "extender.cli.app"
"""The module whose `app` runs every other command."""


def main() -> None:
    """Entry point."""
    run_command(_run)


def _run(standalone_mode: bool) -> object:
    """Import the command and run it. The import takes a second, in which Ctrl-C must end in one line as later."""
    command = "".join(sys.argv[1:2])
    if command not in ALONE:
        return import_module(OTHERS).app(prog_name=program_name(), standalone_mode=standalone_mode)
    del sys.argv[1]
    return import_module(ALONE[command]).app(prog_name=f"{program_name()} {command}", standalone_mode=standalone_mode)


if __name__ == "__main__":
    main()
