"""The archive that manifests/krew/fabricwise.yaml describes: two executables and a folder `lib` with the package and what it requires.

`lib` is copied from the installed packages of this environment, so that a release has the versions that were tested, and nothing is
downloaded. Packages with compiled parts fit one operating system, processor and minor version of Python; the executables look for it.
"""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from packaging.requirements import Requirement

from tests.checkout import ROOT

PACKAGES = ("extender", "topology")
EXECUTABLES = {"kubectl-fabricwise": "extender.__main__", "kubectl_complete-fabricwise": "extender.cli.kubectl_completion"}
"""Executable -> module whose `main` it runs."""
_SCRIPT = """#!/bin/sh
# Runs {module} with the packages beside this file. $0 can be a link, as krew makes one.
here=$(dirname "$(readlink -f "$0")")
for python in python{version} python3; do
  if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != ({major}, {minor}))' 2>/dev/null; then
    PYTHONPATH="$here/lib" exec "$python" -c 'import sys; sys.argv[0] = "{name}"; from {module} import main; main()' "$@"
  fi
done
echo "error: {name} needs Python {version} on PATH; install python{version}, or the archive for your version" >&2
exit 3
"""


def write_archive(file: Path) -> None:
    """Write the gzipped archive for this machine."""
    with tarfile.open(file, "w:gz", compresslevel=6) as archive:
        for name, module in EXECUTABLES.items():
            _add(archive, name, script(name, module).encode(), 0o755)
        archive.add(ROOT / "LICENSE", "LICENSE")
        for source, name in library_files():
            archive.add(source, f"lib/{name}", recursive=False)


def script(name: str, module: str, version: tuple[int, int] = (sys.version_info[0], sys.version_info[1])) -> str:
    """Return the text of an executable for a minor version of Python."""
    major, minor = version
    return _SCRIPT.format(name=name, module=module, major=major, minor=minor, version=f"{major}.{minor}")


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, BytesIO(content))


def library_files() -> Iterator[tuple[Path, str]]:
    """Yield (file, path below `lib`) of the package itself and of all that it requires."""
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                yield source, str(source.relative_to(ROOT))
    for found in required(distribution("fabricwise")):
        for name in found.files or ():
            path = Path(str(found.locate_file(name)))
            if ".." not in name.parts and "__pycache__" not in name.parts and path.is_file():
                yield path, str(name)


def required(package: Distribution) -> list[Distribution]:
    """Return the installed packages that a package requires here, directly or indirectly, each once, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(package, "")]
    while waiting:
        one, extra = waiting.pop()
        for text in one.requires or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            try:
                needed = found.get(name) or distribution(requirement.name)
            except PackageNotFoundError as error:
                raise RuntimeError(f"{requirement.name}, which {one.metadata['Name']} requires, is not installed") from error
            if name not in found:
                waiting.append((needed, ""))
            waiting += [(needed, more) for more in requirement.extras if name not in found]
            found[name] = needed
    return [found[name] for name in sorted(found)]
