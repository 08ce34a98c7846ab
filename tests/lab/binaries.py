"""Where the lab finds its programs: environment variables, $KUBE_ASSETS, PATH, the cache of the cluster tests; none in the repository."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import go_build
from tests.cluster.assets import BINARIES, VERSION, MissingAssetError, cache_folder, etcd_binary, kubernetes_binary

KUBELET_SOURCES = Path(__file__).parent / "kubelet_build"


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of the node's programs."""

    kubelet: Path
    containerd: Path
    runc: Path
    ctr: Path
    device_plugin: Path
    """NVIDIA's k8s-device-plugin."""
    mock_nvml: Path
    """The folder with the mock's libnvidia-ml.so.1 and its configs/."""
    compiler: Path
    """For one static file of C that the containers run."""


class MissingProgramsError(RuntimeError):
    """Programs that the lab needs and that are not here, each with what was tried."""


def _from_environment(variable: str, name: str) -> Path | None:
    given = os.environ.get(variable)
    if given:
        return Path(given) if Path(given).is_file() else None
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def _kubelet(say: Callable[[str], None]) -> Path:
    """Raises GoBuildError where it has to be built and cannot be."""
    assets = os.environ.get("KUBE_ASSETS")
    places = [Path(assets) / "kubelet"] if assets else []
    found = _from_environment("FABRICWISE_KUBELET", "kubelet")
    places += [found] if found else []
    places.append(cache_folder() / "kubelet")
    for place in places:
        if place.is_file():
            return place
    cache_folder().mkdir(parents=True, exist_ok=True)
    go_build.build(VERSION, ("kubelet",), cache_folder(), say, KUBELET_SOURCES)
    return cache_folder() / "kubelet"


def _mock_nvml() -> Path | None:
    folder = Path(os.environ.get("FABRICWISE_MOCK_NVML") or "/nonexistent")
    return folder if (folder / "libnvidia-ml.so.1").exists() and (folder / "configs").is_dir() else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def find(say: Callable[[str], None] = _say) -> Binaries:
    """All programs. Raises MissingProgramsError that names every one that is missing."""
    missing: list[str] = []

    def needed(what: str, found: Path | None, remedy: str) -> Path:
        if found is None:
            missing.append(f"- {what}: {remedy}")
        return found or Path()

    try:
        etcd_binary()
        for name in BINARIES:
            kubernetes_binary(name, say)
    except MissingAssetError as error:
        missing.append(f"- control plane: {error}")
    kubelet = None
    try:
        kubelet = _kubelet(say)
    except go_build.GoBuildError as error:
        missing.append(f"- kubelet {VERSION}: put it on PATH, into $KUBE_ASSETS, or name it in $FABRICWISE_KUBELET ({error})")
    binaries = Binaries(
        kubelet or Path(),
        needed("containerd", _from_environment("FABRICWISE_CONTAINERD", "containerd"), "install it, or name it in $FABRICWISE_CONTAINERD"),
        needed("runc", _from_environment("FABRICWISE_RUNC", "runc"), "install it, or name it in $FABRICWISE_RUNC"),
        needed("ctr", _from_environment("FABRICWISE_CTR", "ctr"), "it comes with containerd; or name it in $FABRICWISE_CTR"),
        needed(
            "NVIDIA's device plugin",
            _from_environment("FABRICWISE_DEVICE_PLUGIN", "nvidia-device-plugin"),
            "build cmd/nvidia-device-plugin of NVIDIA/k8s-device-plugin (0.17 or later), and name it in $FABRICWISE_DEVICE_PLUGIN",
        ),
        needed(
            "NVIDIA's mock of NVML",
            _mock_nvml(),
            "build pkg/gpu/mocknvml of NVIDIA/k8s-test-infra, and name its folder in $FABRICWISE_MOCK_NVML",
        ),
        needed("a C compiler", _from_environment("CC", "cc"), "install one, or name it in $CC"),
    )
    if os.geteuid() != 0:
        missing.append("- root: containers and mounts need it")
    if missing:
        raise MissingProgramsError("the lab needs, and did not find:\n" + "\n".join(missing))
    return binaries
