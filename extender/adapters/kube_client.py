"""The configured connection to an API server: in the cluster if we run in one, else from a kubeconfig."""

from __future__ import annotations

import socket
from typing import Any

import kubernetes.client
import kubernetes.config

from extender.errors import ClusterSourceError

CONNECTIONS = 64
"""Kept open to the API server: for bindings in flight, beside the watches. The client limits no rate of its own."""

_KEEP_ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in (
        ("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)) if hasattr(socket, name)),
]  # fmt: skip
"""A quiet watch whose server vanished without a word is found broken after half a minute, not when its read times out."""


def api_client(kubeconfig: str | None = None) -> kubernetes.client.ApiClient:
    """A configured client: in the cluster if we run in one, else from a kubeconfig. Raises ClusterSourceError."""
    configuration = kubernetes.client.Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    configuration.socket_options = _KEEP_ALIVE
    try:
        if kubeconfig is None:
            try:
                kubernetes.config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
                return kubernetes.client.ApiClient(configuration)
            except kubernetes.config.ConfigException:
                pass
        kubernetes.config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        return kubernetes.client.ApiClient(configuration)
    except Exception as error:  # the loader also lets YAML, type and key errors of a broken file through
        raise ClusterSourceError(f"no Kubernetes configuration: {' '.join(str(error).split())}") from error


def credentials(configuration: Any) -> dict[str, str]:
    """Authentication headers; asked for each time, for tokens are rotated and the client refreshes them then."""
    settings = configuration.auth_settings().values()
    return {auth["key"]: auth["value"] for auth in settings if auth["in"] == "header" and auth["value"]}
