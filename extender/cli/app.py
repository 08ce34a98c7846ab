"""The `fabricwise` command line: registers the commands in the order in which a user needs them.

Every error is one line on standard error; the exit statuses are those of `extender.errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from extender.cli.commands.nodes.classes import classes
from extender.cli.commands.nodes.defrag import defrag
from extender.cli.commands.nodes.doctor import doctor, node
from extender.cli.commands.nodes.slots import slots
from extender.cli.commands.nodes.telemetry import telemetry
from extender.cli.commands.nodes.top import top
from extender.cli.commands.nodes.topo import topo
from extender.cli.commands.pods.explain import explain
from extender.cli.commands.pods.fit import fit
from extender.cli.commands.pods.replay import replay
from extender.cli.commands.pods.what_if import what_if
from extender.cli.commands.pods.why import why
from extender.cli.commands.services.agent import agent
from extender.cli.commands.services.demo import demo
from extender.cli.commands.services.serve import serve
from extender.cli.commands.services.write_dump import dump
from extender.cli.commands.services.write_snapshot import snapshot
from extender.errors import EXIT_STATUSES, program_name, run_command
from extender.steering.command import steer

COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "explain": explain,
    "why": why,
    "what-if": what_if,
    "node": node,
    "doctor": doctor,
    "topo": topo,
    "fit": fit,
    "slots": slots,
    "defrag": defrag,
    "classes": classes,
    "telemetry": telemetry,
    "top": top,
    "dump": dump,
    "snapshot": snapshot,
    "replay": replay,
    "demo": demo,
    "serve": serve,
    "agent": agent,
    "steer": steer,
}
"""The commands and groups of commands, in the order in which --help lists them."""


class InOrder(TyperGroup):
    """A group that lists its commands in the order of `COMMANDS`; Typer itself lists nested groups first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_STATUSES,
    rich_markup_mode=None,
)
for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name=name)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"fabricwise {installed_version('fabricwise')}")
        except PackageNotFoundError:  # run from a checkout that is not installed
            typer.echo("fabricwise, of unknown version: it is not installed as a package")
        raise typer.Exit


@app.callback()
def fabricwise(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """GPU-aware scheduler extender: places pods by link bandwidth and says why."""


def main() -> None:
    """Entry point of the `fabricwise` command, except for `fabricwise agent`: see `extender.__main__`."""
    run_command(partial(app, prog_name=program_name()))


if __name__ == "__main__":
    main()
