"""The objects that the kustomize bases of `manifests` install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.checkout import ROOT


def base_objects(folder: Path = ROOT / "manifests/base") -> Iterator[dict[str, Any]]:
    """Every object the kustomize base installs, in its order."""
    for entry in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        path = (folder / entry).resolve()
        if path.is_dir():
            yield from base_objects(path)
        else:
            yield from yaml.safe_load_all(path.read_text())
