"""Where the real binaries are looked for, in which order, and what is left behind; with a stand-in for the go command."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from tests.cluster.assets import go_build, kube_assets
from tests.cluster.assets.kube_assets import BINARIES, VERSION, MissingAssetError, cache_folder, kubernetes_binary

GO_THAT_BUILDS = """#!/bin/sh
echo "$*" >> "$GO_CALLS"
[ "$1" = list ] && { echo one/package; exit 0; }
sleep 0.3
while [ "$1" != -o ]; do shift; done
folder=$2; shift 2
for package in "$@"; do echo built > "$folder/${package#./}"; done
"""
GO_THAT_FAILS = """#!/bin/sh
i=0; while [ $i -lt 40 ]; do echo "go: line $i" >&2; i=$((i + 1)); done
exit 1
"""
GO_THAT_HANGS = """#!/bin/sh
echo "go: downloading a module" >&2
sleep 600
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty places to look in: no $KUBE_ASSETS, an empty cache, a PATH of shell commands alone, no release to download."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sh", "sleep"):
        (commands / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GO_CALLS", str(tmp_path / "go-calls"))
    monkeypatch.delenv("KUBE_ASSETS", raising=False)
    monkeypatch.setattr(kube_assets, "RELEASES", "http://127.0.0.1:1")
    return tmp_path


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _go_builds(places: Path) -> list[str]:
    return [line for line in (places / "go-calls").read_text().splitlines() if line.startswith("build")]


def test_one_go_build_makes_both_binaries_and_leaves_nothing_else(places: Path) -> None:
    _executable(places / "bin/go", GO_THAT_BUILDS)
    said: list[str] = []
    found = [kubernetes_binary(name, said.append) for name in BINARIES]
    assert found == [cache_folder() / name for name in BINARIES]
    assert len(_go_builds(places)) == 1
    assert sorted(path.name for path in cache_folder().iterdir()) == [".lock", *BINARIES]
    assert any("building kube-apiserver and kube-scheduler" in line and "minutes" in line for line in said)


def test_binaries_are_stamped_with_the_version_that_they_are_built_from(places: Path) -> None:
    _executable(places / "bin/go", GO_THAT_BUILDS)
    kubernetes_binary(BINARIES[0])
    (command,) = _go_builds(places)
    assert f"-X k8s.io/component-base/version.gitVersion={VERSION} " in command


def test_two_runs_at_once_build_once_and_both_get_the_whole_binary(places: Path) -> None:
    _executable(places / "bin/go", GO_THAT_BUILDS)
    found: list[str] = []
    runs = [threading.Thread(target=lambda: found.append(kubernetes_binary(BINARIES[0]).read_text())) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert found == ["built\n"] * 4
    assert len(_go_builds(places)) == 1


@pytest.mark.parametrize("place", ["given", "path", "cache"])
def test_binary_that_is_there_is_taken_without_a_build(places: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    _executable(places / "bin/go", GO_THAT_BUILDS)
    folder = {"given": places / "given", "path": places / "bin", "cache": cache_folder()}[place]
    _executable(folder / BINARIES[0], "#!/bin/sh\n")
    if place == "given":
        monkeypatch.setenv("KUBE_ASSETS", str(folder))
    assert kubernetes_binary(BINARIES[0]) == folder / BINARIES[0]
    assert not (places / "go-calls").exists()


def test_error_lists_every_place_and_the_last_lines_of_the_go_command(places: Path) -> None:
    _executable(places / "bin/go", GO_THAT_FAILS)
    with pytest.raises(MissingAssetError) as caught:
        kubernetes_binary(BINARIES[0])
    message = str(caught.value)
    for part in ("$KUBE_ASSETS: not set", "PATH: none", f"{cache_folder()}: none", "download: http://127.0.0.1:1", "go: line 39"):
        assert part in message
    assert "go: line 0\n" not in message
    assert sorted(path.name for path in cache_folder().iterdir()) == [".lock"]


def test_error_says_that_no_go_toolchain_is_there(places: Path) -> None:
    with pytest.raises(MissingAssetError, match="Go build: no Go toolchain is on PATH"):
        kubernetes_binary(BINARIES[0])


def test_cache_folder_that_cannot_be_made_is_named_in_the_error(places: Path) -> None:
    (places / "cache").write_text("a file where the folder should be")
    with pytest.raises(MissingAssetError, match="the cache folder cannot be used"):
        kubernetes_binary(BINARIES[0])


def test_go_command_that_does_not_end_is_ended_with_its_children(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _executable(places / "bin/go", GO_THAT_HANGS)
    monkeypatch.setattr(go_build, "LIMIT_SECONDS", 0.5)
    with pytest.raises(MissingAssetError, match=r"ended after 0 s(.|\n)*downloading a module"):
        kubernetes_binary(BINARIES[0])


def test_what_a_killed_run_left_is_removed_by_the_next(places: Path) -> None:
    _executable(places / "bin/go", GO_THAT_BUILDS)
    _executable(cache_folder() / "build-killed" / BINARIES[0], "half a binary")
    kubernetes_binary(BINARIES[0])
    assert sorted(os.listdir(cache_folder())) == [".lock", *BINARIES]


def test_module_that_is_built_is_of_the_version_that_is_downloaded() -> None:
    module = (go_build.SOURCES / "go.mod").read_text()
    assert re.findall(r"^\s*k8s\.io/kubernetes (\S+)", module, re.MULTILINE) == [VERSION]
    staging = VERSION.replace("v1.", "v0.", 1)
    replaced = re.findall(r"^\s*(k8s\.io/\S+) => (\S+) (\S+)$", module, re.MULTILINE)
    assert replaced
    assert {(old == new, version) for old, new, version in replaced} == {(True, staging)}
    assert {folder.name for folder in go_build.SOURCES.iterdir() if folder.is_dir()} == set(BINARIES)
