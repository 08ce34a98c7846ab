"""The fake kubelet, and the agent that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.fake_kubelet import Kubelet
from tests.agent.rounds.agent_bench import Bench


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    kubelet = Kubelet(tmp_path / "kubelet.sock")
    yield kubelet
    kubelet.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, kubelet: Kubelet, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, kubelet, tmp_path)
