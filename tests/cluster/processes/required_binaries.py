"""The binaries of a control plane: a test without them is skipped with a message, or fails where they are required."""

from __future__ import annotations

import os

import pytest

from tests.cluster.assets.kube_assets import BINARIES, MissingAssetError, etcd_binary, kubernetes_binary


def require_binaries() -> None:
    """Find, download or build what a control plane runs. Where that fails, skip the test with a message, or fail it if it is required."""
    try:
        etcd_binary()
        for name in BINARIES:
            kubernetes_binary(name)
    except MissingAssetError as error:
        if os.environ.get("FABRICWISE_REQUIRE_CLUSTER") == "1":
            pytest.fail(f"FABRICWISE_REQUIRE_CLUSTER=1, but {error}")
        pytest.skip(f"NOT TESTED against a real kube-apiserver and kube-scheduler: {error}")
