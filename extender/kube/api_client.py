"""The configured connection to an API server: from the pod's service account inside a cluster, else from a kubeconfig."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import kubernetes.client
import kubernetes.config

from extender.errors import ClusterSourceError
from extender.kube.socket_options import KEEP_ALIVE

Client = kubernetes.client.ApiClient
"""The client's type, for annotations in modules that may not import the `kubernetes` library."""

CONNECTIONS = 64
"""Connections kept open to the API server, for watches and for bindings in flight. The client itself has no rate limit."""


def api_client(kubeconfig: str | None = None, context: str | None = None) -> kubernetes.client.ApiClient:
    """Return a client configured from `kubeconfig`; if None, from the service account inside a cluster, else from the default kubeconfig.

    `context`: a context of the kubeconfig; None: its current one. With a context, the service account is not used.
    Raises ClusterSourceError if no configuration can be read.
    """
    configuration = kubernetes.client.Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    configuration.socket_options = KEEP_ALIVE
    tried = ""
    if kubeconfig is None and context is None:
        try:
            kubernetes.config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            return kubernetes.client.ApiClient(configuration)
        except Exception as error:
            tried = f"not in a cluster ({_sentence(error)}), and "
    try:
        kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=kubeconfig, context=context, client_configuration=configuration
        )
        return kubernetes.client.ApiClient(configuration)
    except Exception as error:  # for a broken file the loader also raises YAML, type and key errors
        source = f"kubeconfig {kubeconfig}" if kubeconfig else "the usual kubeconfig ($KUBECONFIG, ~/.kube/config)"
        remedy = "give a readable one with --kubeconfig FILE or $KUBECONFIG, whose current-context exists"
        if context is not None:
            names = contexts(kubeconfig)
            remedy = f"its contexts: {', '.join(names[:20])}" if names else "give a readable one with --kubeconfig FILE or $KUBECONFIG"
        raise ClusterSourceError(f"no Kubernetes configuration: {tried}{source}: {_sentence(error)}; {remedy}") from error


def credentials(configuration: Any) -> dict[str, str]:
    """Return the authentication headers. Call it for each request: tokens are rotated, and the client refreshes them in this call.

    Raises ClusterSourceError if the client cannot refresh them: the token file is missing, or the exec plugin fails.
    """
    try:
        settings = configuration.auth_settings().values()
        return {auth["key"]: auth["value"] for auth in settings if auth["in"] == "header" and auth["value"]}
    except Exception as error:  # ConfigException, and other exceptions of the client's loaders
        remedy = "check the token file or exec plugin that the kubeconfig or the service account names"
        raise ClusterSourceError(f"no credentials for the API server: {_sentence(error)}; {remedy}") from error


CREDENTIALS_SECONDS = 1.0
"""How long `Credentials` keeps headers. A rotated token remains valid for minutes."""


class Credentials:
    """The authentication headers of a client, kept for `CREDENTIALS_SECONDS`.

    Computing them takes a fifth of the CPU time of a small request, because the client configures itself anew each time. Safe for several
    threads.
    """

    def __init__(self, configuration: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._configuration, self._clock = configuration, clock
        self._kept: tuple[float, dict[str, str]] = (float("-inf"), {})
        """(monotonic seconds of their computation, headers)."""

    def headers(self) -> dict[str, str]:
        """Return the headers. Raises ClusterSourceError as `credentials`."""
        computed_seconds, headers = self._kept
        now = self._clock()
        if now - computed_seconds > CREDENTIALS_SECONDS:
            headers = credentials(self._configuration)
            self._kept = (now, headers)
        return headers


def contexts(kubeconfig: str | None) -> list[str]:
    """Return the names of the kubeconfig's contexts; empty if it cannot be read."""
    try:
        listed, _ = kubernetes.config.list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
        return [str(entry["name"]) for entry in listed]
    except Exception:  # a broken file; `api_client` reports what is wrong with it
        return []


def context_of(kubeconfig: str | None, context: str | None = None) -> tuple[str, str] | None:
    """Return (name, namespace) of a context of the kubeconfig, by default its current one.

    None inside a cluster or if the kubeconfig cannot be read.
    """
    if kubeconfig is None and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    try:
        listed, current = kubernetes.config.list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
        chosen = current if context is None else next(entry for entry in listed if entry["name"] == context)
        return str(chosen["name"]), str(chosen["context"].get("namespace") or "default")
    except Exception:  # a broken file; `api_client` reports what is wrong with it
        return None


def cluster_name(client: kubernetes.client.ApiClient, kubeconfig: str | None, context: str | None = None) -> str:
    """Return the cluster's description for people: the API server's address and the kubeconfig's context."""
    named = context_of(kubeconfig, context)
    origin = f"context {named[0]}" if named is not None else "in-cluster"
    return f"the cluster at {server_of(client)} ({origin})"


def server_of(client: kubernetes.client.ApiClient) -> str:
    """Return the API server's address, a URL."""
    return str(client.configuration.host)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
