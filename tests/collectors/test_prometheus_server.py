"""Tests with a real Prometheus server, on a machine without one."""

from __future__ import annotations

import pytest

from tests.collectors.prometheus_server import prometheus_binary


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Prometheus server on this machine."""
    monkeypatch.setenv("PATH", "")
    for name in ("PROMETHEUS", "FABRICWISE_REQUIRE_PROMETHEUS"):
        monkeypatch.delenv(name, raising=False)


def test_required_cluster_does_not_require_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRICWISE_REQUIRE_CLUSTER", "1")
    with pytest.raises(pytest.skip.Exception, match="NOT TESTED against a real Prometheus server"):
        prometheus_binary()


def test_required_prometheus_that_is_missing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRICWISE_REQUIRE_PROMETHEUS", "1")
    with pytest.raises(pytest.fail.Exception, match="FABRICWISE_REQUIRE_PROMETHEUS=1, but no prometheus on PATH"):
        prometheus_binary()
