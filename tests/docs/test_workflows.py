"""The hosted CI runs what `.ci/run` runs, by targets and modules that exist."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.checkout import ROOT

WORKFLOW = ROOT / ".github/workflows/ci.yml"


def steps() -> dict[str, list[str]]:
    """The shell commands of each job."""
    jobs: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}


def test_the_workflow_lints_tests_runs_the_cluster_tests_and_builds_the_image() -> None:
    assert steps()["lint"] == ["make lint"]
    assert any("pytest" in command for command in steps()["test"])
    assert any("pytest tests/cluster" in command for command in steps()["cluster"])
    assert any("manifests/Dockerfile" in command for command in steps()["image"])


def test_every_make_target_and_path_of_the_workflow_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for commands in steps().values():
        for target in [target for command in commands for target in re.findall(r"make (\S+)", command)]:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    paths = re.findall(r"(?:tests|manifests)/[\w./-]*\w", WORKFLOW.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_workflow_requires_the_cluster_tests_as_ci_run_does() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    assert jobs["cluster"]["env"] == {"FABRICWISE_REQUIRE_CLUSTER": "1"}
    assert "FABRICWISE_REQUIRE_CLUSTER=1" in (ROOT / ".ci/run").read_text()
