"""Every imported package is declared: `make lint` checks it, and these tests show that the check can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT


def checked(folder: Path) -> tuple[int, str]:
    """Run deptry as `make lint` does. Returns (status, output)."""
    command = [str(Path(sys.executable).with_name("deptry")), "--no-ansi", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_imported_package_is_declared() -> None:
    status, output = checked(ROOT)
    assert status == 0, output


@pytest.mark.parametrize("package", ["urllib3", "starlette", "rich"])
def test_imported_package_that_is_not_declared_fails_the_check(tmp_path: Path, package: str) -> None:
    for name in ("extender", "topology"):
        shutil.copytree(ROOT / name, tmp_path / name)
    lines = (ROOT / "pyproject.toml").read_text().splitlines(keepends=True)
    (tmp_path / "pyproject.toml").write_text("".join(line for line in lines if not line.startswith(f'  "{package}>=')))
    status, output = checked(tmp_path)
    assert status == 1
    assert f"'{package}' imported but it is a transitive dependency" in output
