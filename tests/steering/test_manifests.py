"""The steerer's manifests: what the two containers must have in common, and that a rollout replaces a steerer without a gap."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cluster.conftest import ROOT

FOLDER = ROOT / "manifests/steering"


def daemonset(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / path).read_text())
    return found


def only_container(path: str) -> dict[str, Any]:
    (found,) = daemonset(path)["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("field", ["image", "env", "securityContext", "volumeMounts"])
def test_steerer_that_stands_by_has_what_the_one_that_serves_has(field: str) -> None:
    assert only_container("stand-by/second-container.yaml")[field] == only_container("daemonset.yaml")[field]


def test_steerer_that_stands_by_is_told_to() -> None:
    assert only_container("stand-by/second-container.yaml")["args"] == ["steer", "--stand-by"]


def test_both_kustomizations_use_one_image() -> None:
    images = [yaml.safe_load((FOLDER / place / "kustomization.yaml").read_text())["images"] for place in (".", "stand-by")]
    assert images[0] == images[1]


def test_new_steerer_starts_before_the_old_one_ends() -> None:
    assert daemonset("daemonset.yaml")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
