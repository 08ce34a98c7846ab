"""The `fabricwise` command, which is also installed as `kubectl-fabricwise`: kubectl runs that as `kubectl fabricwise`.

The commands that run as long as a node or a cluster (`agent`, `steer`, `serve`) import no other command: their memory stays small.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module

from extender.errors import program_name, run_command

ALONE = {
    "agent": "extender.cli.commands.services.agent",
    "serve": "extender.cli.commands.services.serve",
    "steer": "extender.steering.command",
}
"""Command -> the module whose `app` runs it alone."""


def main() -> None:
    """Entry point."""
    command = "".join(sys.argv[1:2])
    if command not in ALONE:
        from extender.cli.app import main as run_other_command

        run_other_command()
        return
    del sys.argv[1]
    run_command(partial(import_module(ALONE[command]).app, prog_name=f"{program_name()} {command}"))


if __name__ == "__main__":
    main()
