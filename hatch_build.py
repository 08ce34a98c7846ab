"""Builds the web UI: as a hook of the package build, and as a command.

`python hatch_build.py` builds it where its sources are newer than the last build. `--optional`: where that fails, it only says why.
`--lint` checks the types and the style of its sources instead. It needs Node.js 20.19 or newer with npm on PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("extender", "web", "ui")
OLDEST_NODE = (20, 19)
REQUIRED = "FABRICWISE_REQUIRE_UI"
"""Environment variable: 1 = a package without the web UI is an error."""
WITHOUT = "Everything else works; the page at / says how to build it."


class UiBuildError(Exception):
    """The web UI cannot be built here; the message says why, and what to do."""


class UiBuildHook(BuildHookInterface[Any]):
    """Builds the web UI before it is packed. A package without it is built all the same, with a warning."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, unless the package is installed editable: then `make ui` builds. Raises UiBuildError where it is required."""
        if version == "editable":
            return
        try:
            build(Path(self.root))
        except UiBuildError as missing:
            if os.environ.get(REQUIRED) == "1":
                raise
            self.app.display_warning(f"The package has no web UI: {missing}. {WITHOUT}")


def build(root: Path) -> None:
    """Build the web UI if its sources are newer than the last build. Raises UiBuildError."""
    folder = root / FOLDER
    built = folder / "dist" / "index.html"
    if built.exists() and all(source.stat().st_mtime <= built.stat().st_mtime for source in sources(folder)):
        return
    print("building the web UI (the first time, about half a minute)", file=sys.stderr)
    run(folder, "run", "build", "--silent")


def sources(folder: Path) -> Iterator[Path]:
    """Yield the files that the build reads."""
    yield from (path for path in folder.iterdir() if path.is_file())
    for part in ("src", "public"):
        yield from (path for path in (folder / part).rglob("*") if path.is_file())


def run(folder: Path, *arguments: str) -> None:
    """Run npm in the folder, with the packages of the lock file installed. Raises UiBuildError."""
    npm = npm_path()
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        called(folder, npm, "ci", "--no-audit", "--no-fund", "--loglevel=error")
        installed.touch()
    called(folder, npm, *arguments)


def called(folder: Path, npm: str, *arguments: str) -> None:
    """Run npm. Raises UiBuildError with the end of its output."""
    result = subprocess.run([npm, *arguments], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        said = "\n".join((result.stdout + result.stderr).strip().splitlines()[-30:])
        raise UiBuildError(f"`npm {' '.join(arguments)}` in {FOLDER} ends with status {result.returncode}:\n{said}")


def npm_path() -> str:
    """Return the path of npm. Raises UiBuildError where there is none, or Node.js is too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    oldest = ".".join(map(str, OLDEST_NODE))
    if node is None or npm is None:
        raise UiBuildError(f"Node.js {oldest} or newer with npm is not on PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_NODE:
        raise UiBuildError(f"Node.js on PATH is {version or 'not usable'}, {oldest} or newer is needed")
    return npm


def main(arguments: list[str]) -> int:
    """Run the command. Returns its exit status."""
    root = Path(__file__).resolve().parent
    try:
        if "--lint" in arguments:
            npm_path()
            run(root / FOLDER, "run", "lint", "--silent")
        else:
            build(root)
    except UiBuildError as missing:
        has_node = "PATH" not in str(missing)
        if "--lint" in arguments and not has_node:
            print(f"NOT CHECKED: the sources of the web UI: {missing}", file=sys.stderr)
            return 0
        print(f"the web UI is not built: {missing}. {WITHOUT}" if "--lint" not in arguments else str(missing), file=sys.stderr)
        return 0 if "--optional" in arguments else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
