"""`python -m tests.recorded write FILE [CLUSTERS]`, and `compare BEFORE AFTER [RENAMED.json]` for two such files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.recorded.recorded_answers import answers_of
from tests.recorded.recorded_clusters import recorded_cluster

CLUSTERS = 250
MOST_SHOWN = 20


def write(path: Path, clusters: int) -> None:
    """Write one JSON line per cluster."""
    with path.open("w") as file:
        for seed in range(clusters):
            file.write(json.dumps(answers_of(recorded_cluster(seed)), sort_keys=True) + "\n")
            print(f"\r{seed + 1}/{clusters} clusters", end="", file=sys.stderr)
    print(file=sys.stderr)


def compare(before: Path, after: Path, renamed: dict[str, str]) -> int:
    """Print what differs and return how many answers do. `renamed`: old text -> new text, of keys and of strings."""
    answers = differing = 0
    lines = zip(before.read_text().splitlines(), after.read_text().splitlines(), strict=True)
    for seed, (old_line, new_line) in enumerate(lines):
        old, new = json.loads(old_line), json.loads(new_line)
        for ask in old:
            answers += 1
            found = list(_differences(_renamed(old[ask], renamed), new.get(ask), ""))
            differing += bool(found)
            for difference in found[: MOST_SHOWN if differing <= MOST_SHOWN else 0]:
                print(f"cluster {seed}, {ask}: {difference}")
    print(f"{answers} answers, {differing} differ")
    return differing


def _renamed(answer: Any, renamed: dict[str, str]) -> Any:
    if isinstance(answer, list):
        return [_renamed(one, renamed) for one in answer]
    if isinstance(answer, dict):
        return {renamed.get(key, key): _renamed(value, renamed) for key, value in answer.items()}
    return renamed.get(answer, answer) if isinstance(answer, str) else answer


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{where}[{place}]")
    elif old != new:
        yield f"{where}: {str(old)[:200]} became {str(new)[:200]}"


def main(arguments: list[str]) -> int:
    """Run one of the two commands; 1 if answers differ, 2 for a wrong call."""
    match arguments:
        case ["write", path, *rest]:
            write(Path(path), int(rest[0]) if rest else CLUSTERS)
            return 0
        case ["compare", before, after, *rest]:
            renamed = json.loads(Path(rest[0]).read_text()) if rest else {}
            return 1 if compare(Path(before), Path(after), renamed) else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
