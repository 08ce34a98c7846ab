"""Options that several commands have in common: groups of options, and one description of each option."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from extender.cli.app import app
from extender.cli.options.option_groups import with_option_groups


@dataclass(frozen=True, slots=True)
class Place:
    """A group of options."""

    row: Annotated[int, typer.Option("--row", help="The row.")]
    column: Annotated[str, typer.Option("--column", help="The column.")] = "a"


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["--row", "3"], "before=None Place(row=3, column='a') after=0"),
        (["--after", "2", "--column", "b", "--before", "x", "--row", "3"], "before='x' Place(row=3, column='b') after=2"),
    ],
)
def test_command_receives_a_group_made_from_its_options_and_defaults(arguments: list[str], received: str) -> None:
    result = CliRunner().invoke(_group_app(), arguments)
    assert (result.exit_code, result.output) == (0, f"{received}\n")


def test_option_of_a_group_without_a_default_is_required() -> None:
    result = CliRunner().invoke(_group_app(), [])
    assert result.exit_code == 2
    assert "--row" in result.output


def test_options_of_a_group_are_in_the_place_of_its_parameter() -> None:
    assert [option.name for option in get_command(_group_app()).params] == ["before", "row", "column", "after"]


def _group_app() -> typer.Typer:
    group_app = typer.Typer(add_completion=False)

    @group_app.command()
    @with_option_groups
    def command(
        *,
        before: Annotated[str | None, typer.Option("--before")] = None,
        place: Place,
        after: Annotated[int, typer.Option("--after")] = 0,
    ) -> None:
        typer.echo(f"{before=} {place} {after=}")

    return group_app


DESCRIBED_BY_EACH_COMMAND = {
    "--cluster": "`fit` and `topo show` read none unless it is given",
    "--context": "`fit` counts tokens with it",
    "--decisions": "how many decisions a snapshot has, or whether the steerer reads recorded ones",
    "--interval": "of the agent's readings",
    "--kubeconfig": "the agent and the steerer run in a pod",
    "--memory": "of a machine, or that a pod needs",
    "--node-name": "the agent also reads its pod's token",
    "--once": "what is done once differs",
    "--output": "`topo show` draws, `agent` prints an object, `dump` has an older name of FILE",
    "--pods": "to begin with, or how many",
    "--port": "of a server",
    "--shared": "the agent names the steerer, the steerer the agent",
    "--size": "`slots` counts for several sizes, `defrag` makes room for one",
    "--watch": "`why` ends when the pod is scheduled",
}
"""Options whose meaning depends on the command, with the reason."""


def test_option_of_several_commands_is_described_alike_unless_its_meaning_differs() -> None:
    descriptions = defaultdict[str, set[str]](set)
    for option in _options(get_command(app)):
        descriptions[max(option.opts, key=len)].add(inspect.cleandoc(option.help or ""))
    different = {flag for flag, texts in descriptions.items() if len(texts) > 1}
    assert different == DESCRIBED_BY_EACH_COMMAND.keys()


def _options(command: Any) -> Iterator[Any]:
    yield from (option for option in command.params if option.param_type_name == "option")
    for sub_command in getattr(command, "commands", {}).values():
        yield from _options(sub_command)
