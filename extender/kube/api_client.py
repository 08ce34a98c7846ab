"""The configured connection to an API server: in the cluster if we run in one, else from a kubeconfig."""

from __future__ import annotations

import os
import socket
from typing import Any

import kubernetes.client
import kubernetes.config

from extender.errors import ClusterSourceError

Client = kubernetes.client.ApiClient
"""For annotations of those that pass one on and do not know the library."""

CONNECTIONS = 64
"""Kept open to the API server: for bindings in flight, beside the watches. The client limits no rate of its own."""

_IDLE_PROBES = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_KEEP_ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _IDLE_PROBES if hasattr(socket, name)),
]
"""A quiet watch whose server has vanished is found broken after half a minute, not when its read times out."""


def api_client(kubeconfig: str | None = None) -> kubernetes.client.ApiClient:
    """A configured client: from the kubeconfig given, else in the cluster if we run in one, else from the usual kubeconfig.

    Raises ClusterSourceError.
    """
    configuration = kubernetes.client.Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    configuration.socket_options = _KEEP_ALIVE
    tried = ""
    if kubeconfig is None:
        try:
            kubernetes.config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            return kubernetes.client.ApiClient(configuration)
        except Exception as error:
            tried = f"not in a cluster ({_sentence(error)}), and "
    try:
        kubernetes.config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        return kubernetes.client.ApiClient(configuration)
    except Exception as error:  # the loader also lets YAML, type and key errors of a broken file through
        source = f"kubeconfig {kubeconfig}" if kubeconfig else "the usual kubeconfig ($KUBECONFIG, ~/.kube/config)"
        remedy = "name a readable one with --kubeconfig FILE or $KUBECONFIG, whose current-context exists"
        raise ClusterSourceError(f"no Kubernetes configuration: {tried}{source}: {_sentence(error)}; {remedy}") from error


def credentials(configuration: Any) -> dict[str, str]:
    """Authentication headers; asked for each time, because tokens are rotated and the client refreshes them then.

    Raises ClusterSourceError where the client cannot refresh them: a token file that has gone, an exec plugin that fails.
    """
    try:
        settings = configuration.auth_settings().values()
        return {auth["key"]: auth["value"] for auth in settings if auth["in"] == "header" and auth["value"]}
    except Exception as error:  # ConfigException, and what its loaders let through
        remedy = "check the token file or exec plugin that the kubeconfig or the service account names"
        raise ClusterSourceError(f"no credentials for the API server: {_sentence(error)}; {remedy}") from error


def context_of(kubeconfig: str | None) -> tuple[str, str] | None:
    """(name, namespace) of the kubeconfig's current context; None in a cluster, or where the kubeconfig cannot be read."""
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    try:
        _, current = kubernetes.config.list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
        return str(current["name"]), str(current["context"].get("namespace") or "default")
    except Exception:  # the loader lets errors of a broken file through; api_client says what is wrong with it
        return None


def cluster_name(client: kubernetes.client.ApiClient, kubeconfig: str | None) -> str:
    """Which cluster that is, for people: the context of the kubeconfig, and the API server's address."""
    context = context_of(kubeconfig)
    where = f"context {context[0]}" if context is not None else "in-cluster"
    return f"the cluster at {server_of(client)} ({where})"


def server_of(client: kubernetes.client.ApiClient) -> str:
    """The API server's address."""
    return str(client.configuration.host)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
