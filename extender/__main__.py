"""The `fabricwise` command.

`fabricwise agent` and `fabricwise steer` import no other command, because their processes run on every node and must stay small.
"""

from __future__ import annotations

import sys
from functools import partial

from extender.errors import run_command


def main() -> None:
    """Entry point."""
    command = "".join(sys.argv[1:2])
    if command == "agent":
        from extender.cli.commands.agent import app
    elif command == "steer":
        from extender.steering.command import app
    else:
        from extender.cli.app import main as run_other_command

        run_other_command()
        return
    del sys.argv[1]
    run_command(partial(app, prog_name=f"fabricwise {command}"))


if __name__ == "__main__":
    main()
