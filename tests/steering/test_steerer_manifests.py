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


def containers() -> dict[str, dict[str, Any]]:
    return {container["name"]: container for container in daemonset("daemonset.yaml")["spec"]["template"]["spec"]["containers"]}


def test_second_steerer_stands_by_in_a_container_of_its_own() -> None:
    assert {name: container["args"] for name, container in containers().items()} == {
        "steerer": ["steer"],
        "stand-by": ["steer", "--stand-by"],
    }


@pytest.mark.parametrize("field", ["image", "env", "securityContext", "volumeMounts"])
def test_steerer_that_stands_by_has_what_the_one_that_serves_has(field: str) -> None:
    assert containers()["stand-by"][field] == containers()["steerer"][field]


def test_steerer_that_stands_by_may_use_as_much_memory_as_the_one_that_serves_because_it_may_serve() -> None:
    limits = {container["resources"]["limits"]["memory"] for container in containers().values()}
    assert limits == {"128Mi"}


def test_both_steerers_together_request_at_most_80_mebibytes() -> None:
    requests = [container["resources"]["requests"]["memory"] for container in containers().values()]
    assert sum(int(request.removesuffix("Mi")) << 20 for request in requests) <= 80 << 20


def test_new_steerer_starts_before_the_old_one_ends() -> None:
    assert daemonset("daemonset.yaml")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
