"""What every part of the benchmark is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cycles import Extender
from tests.bench.part_sizes import Sizes


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the benchmark."""

    sizes: Sizes
    folder: Path
    """A folder for files of this run, which is removed at its end."""
    say: Callable[[str], None]
    """Shows what is done now."""
    rivals: Sequence[Extender] = ()
    """Other extenders, which are asked the same."""
