"""The `fabricwise` command. `fabricwise agent` imports no other command, because its process runs on every node and must stay small."""

from __future__ import annotations

import sys
from functools import partial

from extender.errors import run_command


def main() -> None:
    """Entry point."""
    if sys.argv[1:2] != ["agent"]:
        from extender.cli.app import main as run_other_command

        run_other_command()
        return
    from extender.cli.commands.agent import app

    del sys.argv[1]
    run_command(partial(app, prog_name="fabricwise agent"))


if __name__ == "__main__":
    main()
