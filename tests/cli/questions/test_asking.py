"""A command for `--cluster kube` asks the running extender if it can, and says on standard error which of the two has answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from extender.cli.asking import Answer, NotAsked, Target, asked
from extender.errors import ClusterSourceError
from extender.kube import service_proxy
from tests.cli.commands import Commands
from tests.conftest import Served
from tests.kube.api_server import ApiServer, api_server
from tests.objects import node, pod
from tests.running_app import running_app

SERVICE = "/api/v1/namespaces/fabricwise-system/services/fabricwise"
PROXY = f"{SERVICE}:http/proxy"
PODS_THERE = "/api/v1/namespaces/fabricwise-system/pods"
FORWARD = f"{PODS_THERE}/fabricwise-0/portforward"


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server with one node that the running extender does not know, so that an answer shows its origin."""
    with api_server(tmp_path) as server:
        server.add(node("of-the-api"))
        yield server


def install(api: ApiServer, url: str, *, ready: str = "True") -> None:
    """Install the extender at `url` with its service and one pod, which can be reached by the proxy and by a port-forward."""
    api.services[PROXY] = url
    api.singles[SERVICE] = {"spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 8888, "targetPort": "http"}]}}
    port = {"name": "http", "containerPort": 8888}
    api.lists[PODS_THERE] = [
        {
            "metadata": {"name": "fabricwise-0"},
            "spec": {"containers": [{"ports": [port]}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }
    ]
    api.forwards[FORWARD] = int(url.rsplit(":", 1)[1])


def url_of(served: Served) -> str:
    return str(served.client.base_url).rstrip("/")


def target(api: ApiServer, **options: Any) -> Target:
    return Target("kube", kubeconfig=str(api.kubeconfig), **options)


def nodes_of(answer: dict[str, Any]) -> set[str]:
    return {card["node"] for card in answer["nodes"]}


def test_doctor_asks_the_running_extender_through_the_service_proxy(api: ApiServer, served: Served, fabricwise: Commands) -> None:
    install(api, url_of(served))
    ended = fabricwise("doctor", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    answer = json.loads(ended.out)
    assert nodes_of(answer) == set(served.cluster.machines)
    assert ended.err == "note: answered by the extender fabricwise-system/fabricwise, through the API server's service proxy\n"
    assert answer["cluster"].endswith("by the extender fabricwise-system/fabricwise, through the API server's service proxy")
    assert {path for _, path, _ in api.asked} == {f"{PROXY}/healthz", f"{PROXY}/v1/reports"}


def test_without_the_right_to_use_the_service_proxy_a_port_forward_is_opened(api: ApiServer, served: Served, fabricwise: Commands) -> None:
    install(api, url_of(served))
    api.refused[PROXY] = 403
    ended = fabricwise("doctor", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert nodes_of(json.loads(ended.out)) == set(served.cluster.machines)
    assert ended.err == (
        "note: answered by the extender fabricwise-system/fabricwise, through a port-forward to pod fabricwise-system/fabricwise-0\n"
    )


def test_body_and_query_reach_the_extender_by_both_ways(api: ApiServer, served: Served) -> None:
    install(api, url_of(served))
    for refused in ({}, {PROXY: 403}):
        api.refused = refused
        explained = asked(target(api), "/v1/explain", pod(2, name="x" * 70_000))
        assert isinstance(explained, Answer)
        assert explained.content["chosen"] == "hgx-b200-0"
        limited = asked(target(api), "/v1/decisions", None, {"limit": "1", "pod": "a b/ü"})
        assert isinstance(limited, Answer)
        assert limited.content["decisions"] == []


REFUSALS: dict[str, tuple[dict[str, int], str]] = {
    "no right to services/proxy, nor to read the service": (
        {PROXY: 403, SERVICE: 403},
        "the right to get services/proxy in namespace fabricwise-system is missing; "
        "the right to get services in namespace fabricwise-system is missing",
    ),
    "no right to list pods": ({PROXY: 403, PODS_THERE: 403}, "the right to list pods in namespace fabricwise-system is missing"),
    "no right to forward": ({PROXY: 403, FORWARD: 403}, "the right to create pods/portforward in namespace fabricwise-system is missing"),
    "no service": ({PROXY: 404}, "there is no service fabricwise-system/fabricwise"),
    "wrong credentials": ({PROXY: 401}, "does not accept the credentials"),
    "an error of the proxy": ({PROXY: 502, SERVICE: 404}, "service proxy to fabricwise-system/fabricwise answered 502"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_command_evaluates_by_itself_and_names_what_is_missing(api: ApiServer, served: Served, fabricwise: Commands, case: str) -> None:
    install(api, url_of(served))
    refused, why = REFUSALS[case]
    api.refused.update(refused)
    ended = fabricwise("doctor", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert nodes_of(json.loads(ended.out)) == {"of-the-api"}
    notes = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: evaluated from the API server alone: ")
    assert why in notes[0]


def test_question_with_a_body_needs_the_right_to_create(api: ApiServer, served: Served) -> None:
    install(api, url_of(served))
    api.refused |= {f"{PROXY}/v1/explain": 403, SERVICE: 403}
    del api.services[PROXY]
    api.singles[f"{PROXY}/healthz"] = {}
    reply = asked(target(api), "/v1/explain", pod(2))
    assert isinstance(reply, NotAsked)
    assert "the right to create services/proxy in namespace fabricwise-system is missing" in str(reply.why)


def test_pod_that_is_not_ready_is_not_asked(api: ApiServer, served: Served) -> None:
    install(api, url_of(served), ready="False")
    api.refused[PROXY] = 403
    reply = asked(target(api), "/v1/nodes")
    assert isinstance(reply, NotAsked)
    assert "has no ready pod" in str(reply.why)


def answering(status: int, content: Any) -> FastAPI:
    """Return an application that gives the same answer to every request."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    def any_path(path: str) -> JSONResponse:
        return JSONResponse(content, status)

    return app


NO_ANSWERS: dict[str, tuple[int, Any, str]] = {
    "not ready": (503, {"error": "not yet listed: pods"}, "answered 503 to /v1/why: not yet listed: pods"),
    "another version": (404, {"detail": "Not Found"}, "answered 404 to /v1/why"),
    "another program": (200, ["x"], "something other than a JSON object"),
    "a token is wanted": (401, {"error": "no token"}, "give it with --token-file"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_extender_that_cannot_answer_is_not_an_error(api: ApiServer, case: str) -> None:
    status, content, why = NO_ANSWERS[case]
    with running_app(answering(status, content)) as url:
        install(api, url)
        reply = asked(target(api), "/v1/why")
    assert isinstance(reply, NotAsked)
    assert why in str(reply.why)


def test_request_that_the_extender_refuses_is_an_error(api: ApiServer) -> None:
    with running_app(answering(404, {"error": "no node 'x' is known"})) as url:
        install(api, url)
        with pytest.raises(ClusterSourceError, match="no node 'x' is known"):
            asked(target(api), "/v1/nodes/x")


def test_answer_longer_than_the_bound_is_not_read(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(answering(200, {"long": "x" * 3_000_000})) as url:
        install(api, url)
        monkeypatch.setattr(service_proxy, "MOST_ANSWER_BYTES", 1 << 20)
        reply = asked(target(api), "/v1/nodes")
    assert isinstance(reply, NotAsked)
    assert "longer than 1 MiB" in str(reply.why)


def test_token_reaches_the_extender_by_a_port_forward_because_the_proxy_does_not_pass_it_on(api: ApiServer, tmp_path: Path) -> None:
    app, seen = FastAPI(), list[str | None]()

    @app.middleware("http")
    async def recorded(request: Any, call_next: Any) -> Any:
        seen.append(request.headers.get("authorization"))
        return JSONResponse({"nodes": []})

    token_file = tmp_path / "token"
    token_file.write_text("abc.def\n")
    with running_app(app) as url:
        install(api, url)
        reply = asked(target(api, token_file=token_file), "/v1/nodes")
    assert isinstance(reply, Answer)
    assert seen == ["Bearer abc.def"]


WRONG_OPTIONS = {
    ("--extender", "name"): "neither [https:]NAMESPACE/NAME[:PORT] of a service nor none",
    ("--extender", "a/b/../c"): "neither [https:]NAMESPACE/NAME[:PORT] of a service nor none",
    ("--extender", "a/b", "--server", "http://x"): "not both",
    ("--extender", "a/b", "--cluster", "simulated"): "goes with --cluster kube",
    ("--interval", "0.1", "--watch"): "--interval",
}


@pytest.mark.parametrize("options", WRONG_OPTIONS)
def test_wrong_option_is_a_usage_error(api: ApiServer, fabricwise: Commands, options: tuple[str, ...]) -> None:
    ended = fabricwise("doctor", "--kubeconfig", str(api.kubeconfig), *options)
    assert (ended.status, ended.out) == (2, "")
    assert WRONG_OPTIONS[options] in ended.err


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "\xff\xfe"])
def test_file_without_a_token_is_an_error(api: ApiServer, fabricwise: Commands, tmp_path: Path, content: str) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(content, encoding="latin-1")
    ended = fabricwise("doctor", "--kubeconfig", str(api.kubeconfig), "--token-file", str(token_file))
    assert (ended.status, ended.out) == (3, "")
    assert "name a file that holds only the token" in ended.err


@pytest.mark.parametrize("options", [("--extender", "none"), ("--cluster", "simulated")])
def test_extender_is_not_asked_where_the_options_say_so(
    api: ApiServer, served: Served, fabricwise: Commands, options: tuple[str, ...]
) -> None:
    install(api, url_of(served))
    ended = fabricwise("node", "of-the-api" if "none" in options else "t4-0", "--kubeconfig", str(api.kubeconfig), *options)
    assert "note: " not in ended.err
    assert not any(path.startswith(SERVICE) for _, path, _ in api.asked)


def test_another_service_is_asked_by_name_and_port(api: ApiServer, served: Served) -> None:
    api.services["/api/v1/namespaces/gpu/services/fw:9000/proxy"] = url_of(served)
    reply = asked(target(api, extender="gpu/fw:9000"), "/v1/nodes")
    assert isinstance(reply, Answer)
    assert reply.by == "the extender gpu/fw, through the API server's service proxy"
    asked(target(api, extender="https:gpu/fw:9000"), "/v1/nodes")
    assert "/api/v1/namespaces/gpu/services/https:fw:9000/proxy/healthz" in {path for _, path, _ in api.asked}


def test_explain_asks_the_extender_only_on_request(api: ApiServer, served: Served, fabricwise: Commands, tmp_path: Path) -> None:
    install(api, url_of(served))
    wanted = tmp_path / "pod.yaml"
    wanted.write_text(yaml.safe_dump(pod(2)))
    command = ("explain", str(wanted), "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert json.loads(fabricwise(*command).out)["chosen"] == "of-the-api"
    assert json.loads(fabricwise(*command, "--extender", "fabricwise-system/fabricwise").out)["chosen"] == "hgx-b200-0"
