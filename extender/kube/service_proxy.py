"""HTTP requests to a service in the cluster: through the API server's service proxy, or through a port-forward to one of its pods.

Neither needs a route to the pod network. The service proxy needs `get services/proxy` (for a POST `create`), and that the API server may
connect to the pods: a NetworkPolicy can prevent it. A port-forward needs `get services`, `list pods` and `create pods/portforward`.
Everything is bounded in time and size, and no exception of the Kubernetes client leaves this module.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import kubernetes.client
import kubernetes.stream
import msgspec
import urllib3

from extender.command_header import COMMAND_HEADERS
from extender.errors import ClusterSourceError
from extender.kube.api_client import Credentials
from extender.kube.api_requests import ApiRequests, Query
from topology.agent.publisher import ApiError

PROBE_SECONDS = 4.0
"""Time for the first answer of any kind: a connection that a NetworkPolicy drops has none."""
ANSWER_SECONDS = 90.0
"""Time for the answer to a question; long questions are bounded to less by the extender."""
MOST_ANSWER_BYTES = 128 << 20
_MOST_PODS = 50
_PROBE = "/healthz"
_HEADERS = {"Accept": "application/json", "Content-Type": "application/json", **COMMAND_HEADERS}
"""The service proxy passes these on, and `Host` as the API server got it: the API server's own name."""


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A service of the cluster and the port to ask."""

    namespace: str
    name: str
    port: str = "http"
    """Name or number of a port of the service."""
    is_https: bool = False

    @property
    def path(self) -> str:
        """Return the path of the service at the API server."""
        return f"/api/v1/namespaces/{quote(self.namespace, safe='')}/services/{quote(self.name, safe='')}"

    @property
    def proxy_path(self) -> str:
        """Return the path of the service's proxy at the API server."""
        return f"{self.path.rsplit('/', 1)[0]}/{'https:' if self.is_https else ''}{self.name}:{self.port}/proxy"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """One HTTP request to the service."""

    path: str
    query: Query = ()
    body: bytes | None = None
    """The JSON body of a POST; None: a GET."""
    token: str | None = None
    """A bearer token for the service. The API server's proxy does not pass it on; a port-forward does."""

    @property
    def method(self) -> str:
        """Return GET or POST."""
        return "GET" if self.body is None else "POST"

    @property
    def target(self) -> str:
        """Return the path with its query."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")


@dataclass(frozen=True, slots=True)
class ServiceReply:
    """What the service answered, and by which way it was asked."""

    status: int
    body: bytes
    way: str


@dataclass(frozen=True, slots=True)
class Unreached:
    """Why the service gave no answer."""

    why: str
    another_way: bool
    """Whether a port-forward may reach it."""


def ask_service(client: kubernetes.client.ApiClient, service: ServiceName, request: ServiceRequest) -> ServiceReply | Unreached:
    """Return the service's answer, whatever its status: through the service proxy, else through a port-forward.

    With a token, the port-forward is tried first, because the proxy does not pass tokens on.
    """
    ways: list[Callable[[kubernetes.client.ApiClient, ServiceName, ServiceRequest], ServiceReply | Unreached]] = [_by_proxy, _by_forward]
    if request.token is not None:
        ways.reverse()
    reasons: list[str] = []
    for way in ways:
        reply = way(client, service, request)
        if isinstance(reply, ServiceReply):
            return reply
        reasons.append(reply.why)
        if not reply.another_way:
            break
    return Unreached("; ".join(dict.fromkeys(reasons)), False)


def _by_proxy(client: kubernetes.client.ApiClient, service: ServiceName, request: ServiceRequest) -> ServiceReply | Unreached:
    """Ask through the service proxy. A first, small request says within `PROBE_SECONDS` whether that works."""
    probed = _proxied(client, service, ServiceRequest(_PROBE), PROBE_SECONDS)
    return probed if isinstance(probed, Unreached) else _proxied(client, service, request, ANSWER_SECONDS)


def _proxied(
    client: kubernetes.client.ApiClient, service: ServiceName, request: ServiceRequest, seconds: float
) -> ServiceReply | Unreached:
    try:
        response = client.rest_client.pool_manager.request(
            request.method,
            client.configuration.host + service.proxy_path + request.target,
            body=request.body,
            headers=_HEADERS | Credentials(client.configuration).headers(),
            timeout=urllib3.Timeout(seconds),
            retries=False,
            preload_content=False,
            redirect=False,
        )
        try:
            body = response.read(MOST_ANSWER_BYTES + 1)
        finally:
            response.close()
    except urllib3.exceptions.TimeoutError:
        why = f"{service} did not answer through the API server's service proxy within {seconds:g} s; does a NetworkPolicy prevent it?"
        return Unreached(why, True)
    except (urllib3.exceptions.HTTPError, OSError, ClusterSourceError) as error:
        return Unreached(f"the API server cannot be asked: {error}", False)
    if len(body) > MOST_ANSWER_BYTES:
        return Unreached(f"the answer of {service} is longer than {MOST_ANSWER_BYTES >> 20} MiB", False)
    message = _status_message(body)
    if message is None:
        return ServiceReply(response.status, body, "through the API server's service proxy")
    return _refused_proxy(service, request.method, response.status, message)


def _status_message(body: bytes) -> str | None:
    """Return the message of a Status, which is the API server's own answer; None for an answer of the service."""
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or answer.get("kind") != "Status":
        return None
    return " ".join(str(answer.get("message")).split())[:500]


def _refused_proxy(service: ServiceName, method: str, status: int, message: str) -> Unreached:
    verb = "get" if method == "GET" else "create"
    if status == 401:
        return Unreached("the API server does not accept the credentials: log in again", False)
    if status == 403:
        return Unreached(f"the right to {verb} services/proxy in namespace {service.namespace} is missing", True)
    if status == 404:
        why = f"there is no service {service} with a ready pod: is the extender installed? --extender NAMESPACE/NAME names another"
        return Unreached(why, False)
    if status == 503 and "no endpoints available" in message:
        return Unreached(f"service {service} has no ready pod: see kubectl get pods -n {service.namespace}", False)
    return Unreached(f"the API server's service proxy to {service} answered {status}: {message}", True)


def _by_forward(client: kubernetes.client.ApiClient, service: ServiceName, request: ServiceRequest) -> ServiceReply | Unreached:
    """Ask one ready pod of the service through a port-forward."""
    if service.is_https:
        return Unreached("a port-forward is used only for plain HTTP", True)
    try:
        pod, port = _pod_of(ApiRequests(client, PROBE_SECONDS), service)
    except ApiError as error:
        return Unreached(_forward_problem(service, error), True)
    return _in_time(lambda: _forwarded(client, service, pod, port, request), f"pod {service.namespace}/{pod}")


def _forward_problem(service: ServiceName, error: ApiError) -> str:
    if error.status == 403:
        needed = "get services" if "/services/" in str(error) else "list pods"
        return f"the right to {needed} in namespace {service.namespace} is missing"
    return f"no pod of {service} was found for a port-forward: {error}"


def _pod_of(api: ApiRequests, service: ServiceName) -> tuple[str, int]:
    """Return (name, port number) of a ready pod of the service. Raises ApiError."""
    spec = api.get(service.path).get("spec") or {}
    ports = [port for port in spec.get("ports") or () if service.port in (port.get("name"), str(port.get("port")))]
    selector = ",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
    if not ports or not selector:
        raise ApiError(404, f"service {service} has no port {service.port}, or no selector")
    target = ports[0].get("targetPort", ports[0].get("port"))
    query = (("labelSelector", selector), ("limit", str(_MOST_PODS)))
    for pod in api.get(f"/api/v1/namespaces/{quote(service.namespace, safe='')}/pods", query).get("items") or ():
        conditions = (pod.get("status") or {}).get("conditions") or ()
        number = target if isinstance(target, int) else _container_port(pod, str(target))
        if number is not None and any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions):
            return str(pod["metadata"]["name"]), number
    raise ApiError(404, f"service {service} has no ready pod")


def _container_port(pod: dict[str, Any], name: str) -> int | None:
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == name:
                return int(port["containerPort"])
    return None


def _in_time(ask: Callable[[], ServiceReply | Unreached], what: str) -> ServiceReply | Unreached:
    """Return the result of `ask`, which runs in a thread: the client's WebSocket has no time limit for connecting."""
    results: list[ServiceReply | Unreached] = []
    thread = threading.Thread(target=lambda: results.append(ask()), name="port-forward", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return results[0] if results else Unreached(f"a port-forward to {what} did not answer within {ANSWER_SECONDS:g} s", False)


def _forwarded(
    client: kubernetes.client.ApiClient, service: ServiceName, pod: str, port: int, request: ServiceRequest
) -> ServiceReply | Unreached:
    where = f"a port-forward to pod {service.namespace}/{pod}"
    try:
        core = kubernetes.client.CoreV1Api(client)
        forward = kubernetes.stream.portforward(core.connect_get_namespaced_pod_portforward, pod, service.namespace, ports=str(port))
    except Exception as error:  # the client raises many kinds
        return Unreached(_forward_refusal(service, where, error), True)
    try:
        connection = _Connection(forward.socket(port))
        headers = _HEADERS | ({} if request.token is None else {"Authorization": f"Bearer {request.token}"})
        connection.request(request.method, request.target, request.body, headers)
        response = connection.getresponse()
        body = response.read(MOST_ANSWER_BYTES + 1)
        if len(body) > MOST_ANSWER_BYTES:
            return Unreached(f"the answer of {service} is longer than {MOST_ANSWER_BYTES >> 20} MiB", False)
        return ServiceReply(response.status, body, f"through {where}")
    except (OSError, http.client.HTTPException) as error:
        return Unreached(f"{where}: {forward.error(port) or error or type(error).__name__}", True)
    finally:
        forward.close()


def _forward_refusal(service: ServiceName, where: str, error: Exception) -> str:
    """Return why a port-forward was refused. The client's error has the whole response, of which only the status is of use."""
    refused = re.search(r"Handshake status (\d+)", str(error))
    if refused is not None and refused[1] == "403":
        return f"the right to create pods/portforward in namespace {service.namespace} is missing"
    return f"{where} was refused{f' with {refused[1]}' if refused else f': {str(error)[:200]}'}"


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a socket that is open already."""

    def __init__(self, opened: Any) -> None:
        super().__init__("localhost")
        self._opened = opened

    def connect(self) -> None:
        """Use the open socket."""
        self._opened.settimeout(ANSWER_SECONDS)
        self.sock = self._opened
