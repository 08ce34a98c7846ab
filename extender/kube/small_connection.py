"""A connection to the API server for a process that must stay small: with a pod's service account it needs no Kubernetes client.

The client takes 15 MB. It is loaded only where a kubeconfig is read, outside a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import urllib3

from extender.errors import ClusterSourceError
from extender.kube.socket_options import KEEP_ALIVE

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts `token` and `ca.crt` of a pod's service account. Source: Kubernetes, "Accessing the API from within a Pod"."""

_MOST_TOKEN_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Connection:
    """Where requests go, and with which credentials."""

    url: str
    pool: urllib3.PoolManager
    headers: Callable[[], dict[str, str]]
    """The authentication headers. To be called for each request: tokens are rotated. Raises ClusterSourceError where there are none."""


def connection(kubeconfig: str | None = None, folder: Path = SERVICE_ACCOUNT, environment: Mapping[str, str] = os.environ) -> Connection:
    """Return the connection by `kubeconfig`; if None, by the service account inside a cluster, else by the default kubeconfig.

    Raises ClusterSourceError if no configuration can be read.
    """
    if kubeconfig is None and environment.get("KUBERNETES_SERVICE_HOST"):
        return _of_service_account(folder, environment)
    from extender.kube.api_client import api_client, credentials

    client = api_client(kubeconfig)
    return Connection(client.configuration.host, client.rest_client.pool_manager, partial(credentials, client.configuration))


def _of_service_account(folder: Path, environment: Mapping[str, str]) -> Connection:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    authority = folder / "ca.crt"
    if not authority.is_file():
        raise ClusterSourceError(
            f"{authority} is missing: set automountServiceAccountToken in the pod, so that the token of its service account is mounted"
        )
    pool = urllib3.PoolManager(ca_certs=str(authority), cert_reqs="CERT_REQUIRED", socket_options=KEEP_ALIVE)
    return Connection(f"https://{f'[{host}]' if ':' in host else host}:{port}", pool, partial(_bearer, folder / "token"))


def _bearer(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            token = file.read(_MOST_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterSourceError(f"no credentials for the API server: {path}: {error}; check the pod's service account") from error
    if not token or not token.isprintable():
        raise ClusterSourceError(f"no credentials for the API server: {path} has no token; check the pod's service account")
    return {"Authorization": f"Bearer {token}"}
