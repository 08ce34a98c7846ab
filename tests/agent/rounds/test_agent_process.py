"""The process of the agent: the node of its token, its name, and its health and metrics."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path

import httpx
import pytest

from extender.errors import SettingsError
from extender.server.agent_process import NodeClaim, claimed_uid, node_claim, node_name, serve_state
from topology.agent.loop import State


def token_file(folder: Path, claims: object) -> Path:
    """A file with an unsigned token of those claims."""
    path = folder / "token"
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)]
    path.write_text(".".join([*parts, "signature"]))
    return path


CLAIMS: dict[str, tuple[object, NodeClaim | None]] = {
    "bound to a pod": ({"kubernetes.io": {"node": {"name": "n", "uid": "u"}, "pod": {"name": "p"}}}, NodeClaim("n", "u")),
    "bound to a pod, before Kubernetes 1.30": ({"kubernetes.io": {"pod": {"name": "p", "uid": "u"}}}, None),
    "bound to a pod whose Node is not registered": ({"kubernetes.io": {"node": {"name": "n"}}}, NodeClaim("n", None)),
    "not bound": ({"sub": "system:serviceaccount:a:b"}, None),
    "a claim of another shape": ({"kubernetes.io": {"node": ["n", "u"]}}, None),
    "a claim with empty values": ({"kubernetes.io": {"node": {"name": "", "uid": ""}}}, None),
    "no object": ("text", None),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_the_node_of_a_token(case: str, tmp_path: Path) -> None:
    claims, claim = CLAIMS[case]
    path = token_file(tmp_path, claims)
    assert node_claim(path) == claim
    assert claimed_uid(path, "n") == (claim.uid if claim else None)


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", "a.////.c"])
def test_a_file_that_is_no_token_names_no_node(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    assert node_claim(tmp_path / "token") is None
    assert node_claim(tmp_path / "absent") is None


def test_the_node_name_is_that_given_then_that_of_the_environment_then_the_tokens_then_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = token_file(tmp_path, CLAIMS["bound to a pod"][0])
    monkeypatch.setenv("NODE_NAME", "of-the-environment")
    assert node_name("given", path) == "given"
    assert node_name(None, path) == "of-the-environment"
    monkeypatch.delenv("NODE_NAME")
    assert node_name(None, path) == "n"
    assert node_name(None, tmp_path / "absent") == socket.gethostname()


def test_a_token_of_a_pod_on_another_node_ends_the_agent_with_a_remedy(tmp_path: Path) -> None:
    path = token_file(tmp_path, CLAIMS["bound to a pod"][0])
    with pytest.raises(SettingsError, match="node name is other, but its token is of a pod on n: set NODE_NAME"):
        claimed_uid(path, "other")


def test_health_and_metrics_of_the_agent_itself() -> None:
    state = State()
    server = serve_state(state, 5.0, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        assert httpx.get(f"{url}/healthz").status_code == 503
        assert httpx.get(f"{url}/readyz").status_code == 503
        state.rounds, state.last_round_monotonic_seconds, state.gpus = 3, time.monotonic(), 8
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        assert httpx.get(f"{url}/readyz").status_code == 200
        state.publish_error = "403 forbidden"
        assert httpx.get(f"{url}/readyz").text == "publish: 403 forbidden\n"
        state.publish_error, state.kubelet_error = None, "no such socket"
        answer = httpx.get(f"{url}/readyz")
        assert (answer.status_code, answer.text) == (503, "kubelet: no such socket\n")
        assert httpx.get(f"{url}/healthz").status_code == 200, "a restart of the agent cures no kubelet"
        metrics = httpx.get(f"{url}/metrics").text
        assert "fabricwise_agent_gpus 8.0" in metrics
        assert 'fabricwise_agent_failing{part="publish"} 0.0' in metrics
        assert 'fabricwise_agent_failing{part="kubelet"} 1.0' in metrics
        assert httpx.get(f"{url}/else").status_code == 404
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_in_use_is_named() -> None:
    server = serve_state(State(), 5.0, "127.0.0.1", 0)
    try:
        with pytest.raises(SettingsError, match="cannot serve health and metrics on"):
            serve_state(State(), 5.0, "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
