"""manifests/krew: what krew requires of the manifest, and that the archive that it describes can be built and runs."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT
from tests.krew.__main__ import archive_name, main
from tests.krew.plugin_archive import EXECUTABLES, script
from tests.krew.plugin_manifest import PLACEHOLDER, RULES, broken_rules, released

MANIFEST = ROOT / "manifests/krew/fabricwise.yaml"
URL = "https://releases.example/v0.1.0"
PLATFORMS = ("linux_amd64", "linux_arm64", "darwin_arm64")


@pytest.fixture
def manifest() -> dict[str, Any]:
    """The committed manifest with a URL in place of the placeholder."""
    found: dict[str, Any] = yaml.safe_load(MANIFEST.read_text().replace(PLACEHOLDER, URL))
    return found


def test_manifest_obeys_every_rule_of_krew(manifest: dict[str, Any]) -> None:
    assert broken_rules(MANIFEST.stem, manifest) == []


def test_manifest_has_the_version_of_the_package_and_no_address_of_its_own(manifest: dict[str, Any]) -> None:
    assert f'version = "{manifest["spec"]["version"].removeprefix("v")}"' in (ROOT / "pyproject.toml").read_text()
    committed = yaml.safe_load(MANIFEST.read_text())["spec"]
    assert all(platform["uri"].startswith(f"{PLACEHOLDER}/") for platform in committed["platforms"])
    assert {platform["sha256"] for platform in committed["platforms"]} == {"0" * 64}


def _platform(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["spec"]["platforms"][0].update(changed)


def _spec(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["spec"].update(changed)


def _labels(**labels: str) -> Callable[[dict[str, Any]], None]:
    return _platform(selector={"matchLabels": labels})


# rule -> a change of the manifest that breaks it
BREAKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "apiVersion is the one that krew reads": lambda m: m.update(apiVersion="v1"),
    "kind is Plugin": lambda m: m.update(kind="Pod"),
    "the file is called as the plugin": lambda m: m["metadata"].update(name="other"),
    "version is semantic with a v before it": _spec(version="0.1.0"),
    "homepage is stated": lambda m: m["spec"].pop("homepage"),
    "shortDescription is one line of at most 50 characters, without a full stop": _spec(shortDescription="x" * 51),
    "shortDescription does not repeat that it is a plugin of kubectl": _spec(shortDescription="A kubectl plugin"),
    "description and caveats have lines of at most 80 characters, commands excepted": _spec(caveats="x" * 81),
    "there is a platform": _spec(platforms=[]),
    "no platform is named twice": _labels(os="linux", arch="arm64"),
    "selectors name only known operating systems and processors": _labels(os="plan9", arch="amd64"),
    "uri is an archive served by https": _platform(uri="http://x/fabricwise_linux_amd64.tar.gz"),
    "uri names the platform": _platform(uri="https://x/fabricwise.tar.gz"),
    "sha256 has 64 hexadecimal digits": _platform(sha256=""),
    "bin is a path inside the archive": _platform(bin="../kubectl-fabricwise"),
    "files, where stated, are not empty and stay inside": _platform(files=[]),
}


@pytest.mark.parametrize("rule", RULES)
def test_manifest_that_breaks_a_rule_is_found(manifest: dict[str, Any], rule: str) -> None:
    if rule not in BREAKS:
        assert rule in broken_rules("kubectl-Fabricwise", manifest)
        return
    broken = copy.deepcopy(manifest)
    BREAKS[rule](broken)
    assert rule in broken_rules(MANIFEST.stem, broken)


def test_released_manifest_has_the_checksums_of_the_archives_and_only_their_platforms(tmp_path: Path) -> None:
    archives = [tmp_path / f"fabricwise_{name}.tar.gz" for name in PLATFORMS[:2]]
    for path in archives:
        path.write_text(path.name)
    filled = yaml.safe_load(released(MANIFEST.read_text(), f"{URL}/", archives))
    assert broken_rules(MANIFEST.stem, filled) == []
    assert {platform["uri"]: platform["sha256"] for platform in filled["spec"]["platforms"]} == {
        f"{URL}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in archives
    }
    (tmp_path / "fabricwise_plan9_amd64.tar.gz").touch()
    for wrong in ([], [tmp_path / "fabricwise_plan9_amd64.tar.gz"]):
        with pytest.raises(ValueError, match="the manifest names fabricwise_linux_amd64"):
            released(MANIFEST.read_text(), URL, wrong)


def test_archive_that_the_manifest_describes_is_built_and_runs_through_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(str(tmp_path / "out"), URL)
    filled = yaml.safe_load(capsys.readouterr().out)
    (platform,) = filled["spec"]["platforms"]
    archive = tmp_path / "out" / archive_name()
    assert platform["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    store, links = tmp_path / "store", tmp_path / "bin"
    links.mkdir()
    with tarfile.open(archive) as opened:
        opened.extractall(store, filter="data")
    assert {path.name for path in store.iterdir()} == {*EXECUTABLES, "LICENSE", "lib"}
    for name in (platform["bin"], "kubectl_complete-fabricwise"):
        (links / name).symlink_to(store / name)
    environment = {"PATH": f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def run(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(links / name), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Usage: kubectl fabricwise explain" in run("kubectl-fabricwise", "explain", "--help")
    assert "NVSwitch" in run("kubectl-fabricwise", "topo", "show", "hgx-h100", "-o", "json"), "compiled packages are in the archive"


def test_executable_without_its_python_says_which_one_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "kubectl-fabricwise"
    path.write_text(script("kubectl-fabricwise", "extender.__main__", (2, 5)))
    done = subprocess.run(["sh", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr == ("error: kubectl-fabricwise needs Python 2.5 on PATH; install python2.5, or the archive for your version\n")
