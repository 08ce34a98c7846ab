"""The build of the web UI: what it needs, what it says where that is missing, and what its sources name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import hatch_build
from tests.ui.browser import UI

ROOT = UI.parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with sources that were not built yet."""
    folder = tmp_path / hatch_build.FOLDER
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.tsx").write_text("")
    (folder / "package-lock.json").write_text("{}")
    return tmp_path


def test_a_build_without_node_says_what_is_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    with pytest.raises(hatch_build.UiBuildError, match=r"Node.js 20.19 or newer with npm is not on PATH"):
        hatch_build.build(checkout)


def test_a_build_with_an_old_node_names_its_version(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (checkout / name).write_text("#!/bin/sh\necho v18.2.0\n")
        (checkout / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(checkout))
    with pytest.raises(hatch_build.UiBuildError, match=r"v18\.2\.0, 20\.19 or newer is needed"):
        hatch_build.build(checkout)


def test_a_build_that_is_newer_than_its_sources_needs_no_node(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / hatch_build.FOLDER / "dist").mkdir()
    (checkout / hatch_build.FOLDER / "dist" / "index.html").write_text("")
    monkeypatch.setenv("PATH", str(checkout))
    hatch_build.build(checkout)


def test_without_node_the_optional_build_succeeds_and_lint_says_that_nothing_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hatch_build.main(["--lint"]) == 0
    assert "NOT CHECKED" in capsys.readouterr().err


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((UI / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert [name for name, package in lock["packages"].items() if name and "integrity" not in package] == []


def test_every_package_is_pinned_to_one_version() -> None:
    package = json.loads((UI / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert {name: version for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)} == {}


def test_no_source_of_the_ui_names_another_host() -> None:
    named = {
        path.relative_to(UI).as_posix(): found
        for path in [*UI.glob("*.html"), *UI.joinpath("src").rglob("*.*")]
        if (found := re.findall(r"(?:https?:)?//[a-z0-9-]+(?:\.[a-z0-9-]+)+[^\s'\"`]*", path.read_text()))
    }
    assert named == {}
