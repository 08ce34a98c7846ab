"""The options that say how an answer is printed, and whether it is printed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from extender.cli.rendering.console.output import Output
from extender.cli.rendering.console.watching import INTERVAL_SECONDS, LEAST_SECONDS, MOST_SECONDS

OutputOption = Annotated[
    Output, typer.Option("-o", "--output", help="Output format; wide: every column; name: only names, such as node/gpu-a.")
]
WatchOption = Annotated[bool, typer.Option("-w", "--watch", help="Print the answer again whenever it changes, until Ctrl-C.")]
IntervalOption = Annotated[
    float, typer.Option("--interval", min=LEAST_SECONDS, max=MOST_SECONDS, help="Seconds between two looks of --watch.")
]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Whether an answer is printed again, and how often it is looked for."""

    watch: WatchOption = False
    interval_seconds: IntervalOption = INTERVAL_SECONDS
