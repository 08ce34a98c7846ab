"""No exception of the Kubernetes client or of urllib3 leaves extender.kube: each becomes a FabricwiseError with a remedy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import urllib3
import yaml

from extender.errors import ClusterSourceError
from extender.kube.api_client import CREDENTIALS_SECONDS, Credentials, api_client, credentials
from extender.kube.api_requests import ApiRequests
from extender.kube.lease import LeaderLease
from extender.kube.listing import list_once
from extender.kube.smoke_test import Sample, smoke
from extender.kube.watching.watch import ClusterWatch
from extender.kube.writing.pod_binding import PodBinding
from extender.kube.writing.requeue_annotation import RequeueAnnotation
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.settings import Kube, Lease
from tests.kube.api_server import kubeconfig
from tests.objects import GPU
from topology.agent.publisher import ApiError

VENDOR: dict[str, Exception] = {
    "ConfigException": kubernetes.config.ConfigException("Token file exists but empty."),
    "ApiException": kubernetes.client.ApiException(status=500, reason="no"),
    "MaxRetryError": urllib3.exceptions.MaxRetryError(urllib3.HTTPConnectionPool("h"), "/", OSError("refused")),
    "ReadTimeoutError": urllib3.exceptions.ReadTimeoutError(urllib3.HTTPConnectionPool("h"), "/", "timed out"),
    "ProtocolError": urllib3.exceptions.ProtocolError("broke off"),
    "SSLError": urllib3.exceptions.SSLError("bad certificate"),
    "LocationParseError": urllib3.exceptions.LocationParseError("h:x"),
    "YAMLError": yaml.YAMLError("token file"),
    "FileNotFoundError": FileNotFoundError(2, "No such file or directory", "/token"),
    "KeyError": KeyError("token"),
}
OURS = (ClusterSourceError, ApiError)


def broken_credentials(error: Exception, folder: Path) -> kubernetes.client.ApiClient:
    """A client whose credentials cannot be refreshed."""
    client = client_of(folder)

    def refresh(_: object) -> None:
        raise error

    client.configuration.refresh_api_key_hook = refresh
    return client


def client_of(folder: Path) -> kubernetes.client.ApiClient:
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig("http://127.0.0.1:9")))
    return api_client(str(path))


USES: dict[str, Callable[[kubernetes.client.ApiClient], object]] = {
    "credentials": lambda client: credentials(client.configuration),
    "get": lambda client: ApiRequests(client).get("/api/v1/nodes"),
    "create": lambda client: ApiRequests(client).create("/api/v1/pods", {}),
    "replace": lambda client: ApiRequests(client).replace("/api/v1/pods", {}),
    "merge": lambda client: ApiRequests(client).merge("/api/v1/pods", {}),
    "apply": lambda client: ApiRequests(client).apply("/api/v1/pods", {}, "tests"),
    "delete": lambda client: ApiRequests(client).delete("/api/v1/pods"),
    "list": lambda client: list_once(ApiRequests(client)),
    "bind": lambda client: PodBinding(ApiRequests(client)).bind("ns", "name", "uid", "node", {}),
    "pod": lambda client: PodBinding(ApiRequests(client)).pod("ns", "name"),
    "wake": lambda client: RequeueAnnotation(ApiRequests(client)).requeue("ns", "name", "uid"),
    "smoke": lambda client: smoke(ApiRequests(client), Sample("node", "image", GPU, "default", 1)),
}


def told_by(use: str, client: kubernetes.client.ApiClient) -> str:
    """The text of a failure, from a FabricwiseError or a value; any other exception fails the test."""
    try:
        return str(USES[use](client))
    except OURS as error:
        return str(error)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("vendor", VENDOR)
def test_no_vendor_exception_leaves_an_adapter_when_credentials_cannot_be_refreshed(tmp_path: Path, use: str, vendor: str) -> None:
    told = told_by(use, broken_credentials(VENDOR[vendor], tmp_path))
    assert use == "wake" or "no credentials for the API server" in told
    assert use == "wake" or "check the token file or exec plugin" in told


@pytest.mark.parametrize("use", [use for use in USES if use != "credentials"])
@pytest.mark.parametrize("vendor", [name for name, error in VENDOR.items() if isinstance(error, urllib3.exceptions.HTTPError | OSError)])
def test_no_vendor_exception_leaves_an_adapter_when_the_transport_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str, vendor: str
) -> None:
    client = client_of(tmp_path)

    def request(*_: object, **__: object) -> None:
        raise VENDOR[vendor]

    monkeypatch.setattr(client.rest_client.pool_manager, "request", request)
    assert told_by(use, client)


def test_watch_without_refreshable_credentials_counts_a_connection_failure(tmp_path: Path) -> None:
    metrics = Metrics()
    watch = ClusterWatch(
        broken_credentials(VENDOR["ConfigException"], tmp_path),
        ClusterStore(GPU, warm_tables=False),
        Kube(max_backoff_seconds=0.05),
        metrics,
    )
    watch.start()

    def failures(cause: str) -> float:
        return float(metrics.watch_failures.labels("nodes", cause)._value.get())

    deadline = time.monotonic() + 10
    while not failures("connection") and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.stop()
    assert (failures("connection") > 0, failures("internal")) == (True, 0.0)


def test_a_lease_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    LeaderLease(ApiRequests(client_of(tmp_path)), Lease()).stop()


GOOD = kubeconfig("https://127.0.0.1:9")
BROKEN: dict[str, Any] = {
    "is empty": {},
    "is a sentence": "just text",
    "is a list": [1, 2],
    "has no context": {key: value for key, value in GOOD.items() if key != "contexts"},
    "has no current context": {key: value for key, value in GOOD.items() if key != "current-context"},
    "names a context that is not there": {**GOOD, "current-context": "absent"},
    "names a cluster that is not there": {**GOOD, "clusters": []},
    "names a CA file that is not there": {
        **GOOD,
        "clusters": [{"name": "t", "cluster": {"server": "https://x", "certificate-authority": "gone"}}],
    },
    "names a certificate that is not there": kubeconfig("https://x", **{"client-certificate": "gone", "client-key": "gone"}),
    "has a cluster of another shape": {**GOOD, "clusters": "x"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_kubeconfig_is_named_with_a_remedy(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(BROKEN[name]))
    with pytest.raises(ClusterSourceError) as error:
        api_client(str(path))
    assert f"kubeconfig {path}" in str(error.value)
    assert "--kubeconfig FILE" in str(error.value)


def test_error_of_a_pod_without_token_names_every_configuration_that_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "absent"))
    with pytest.raises(ClusterSourceError) as error:
        api_client()
    assert "not in a cluster (Service token file does not exist)" in str(error.value)
    assert "the usual kubeconfig" in str(error.value)


def test_credentials_are_computed_again_once_they_are_older_than_a_second(tmp_path: Path) -> None:
    client, refreshes, seconds = client_of(tmp_path), list[int](), [100.0]
    client.configuration.refresh_api_key_hook = lambda _: refreshes.append(1)
    kept = Credentials(client.configuration, clock=lambda: seconds[0])
    first = kept.headers()
    assert kept.headers() == first == credentials(client.configuration)
    refreshes.clear()
    seconds[0] += CREDENTIALS_SECONDS
    kept.headers()
    assert not refreshes
    seconds[0] += 0.1
    client.configuration.api_key |= dict.fromkeys(client.configuration.api_key, "Bearer rotated")
    assert kept.headers()["authorization"] == "Bearer rotated"
    assert refreshes
