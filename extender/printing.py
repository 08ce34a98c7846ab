"""How commands print: tables for people, JSON for scripts; the options that several of them share."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

console = Console()
if not console.is_terminal:
    console.width = 160  # nobody looks at a pipe: do not fold what a script reads


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; see config/extender.yaml.")]


def print_answer(answer: dict[str, Any], output: Output, table: Callable[[dict[str, Any]], RenderableType]) -> None:
    """An answer as JSON, or as the table made of it."""
    if output is Output.JSON:
        typer.echo(json.dumps(answer, indent=2))
    else:
        console.print(table(answer))
