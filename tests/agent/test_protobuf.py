"""The generated protobuf modules agree with their `.proto` file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.agent.protobuf_modules import HEADER, MODULES, generated
from tests.checkout import ROOT


def grpcio_tools_version() -> str | None:
    try:
        return version("grpcio-tools")
    except PackageNotFoundError:
        return None


@pytest.mark.skipif(grpcio_tools_version() is None, reason="grpcio-tools is not installed")
def test_committed_protobuf_modules_are_those_that_make_protobuf_writes() -> None:
    committed = {module: (ROOT / module).read_text() for module in MODULES}
    assert generated() == committed, "run `make protobuf` and commit its result"


@pytest.mark.skipif(grpcio_tools_version() is None, reason="grpcio-tools is not installed")
def test_a_changed_field_number_changes_the_generated_module(tmp_path: Path) -> None:
    proto = tmp_path / "topology/agent/pod_resources.proto"
    proto.parent.mkdir(parents=True)
    proto.write_text((ROOT / "topology/agent/pod_resources.proto").read_text().replace("namespace = 2", "namespace = 7"))
    assert generated(tmp_path)[MODULES[0]] != (ROOT / MODULES[0]).read_text()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_generated_module_names_its_source_in_its_first_line(module: Path) -> None:
    assert (ROOT / module).read_text().startswith(HEADER)
