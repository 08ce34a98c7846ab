"""Every error that reaches a user names what is wrong, where, and what to do."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.checkout import ROOT
from tests.conftest import Served
from tests.objects import pod

ERRORS = ("FabricwiseError", "RequestError", "SettingsError", "ClusterSourceError", "DocumentError", "ClassesError", "ScrapeError")
"""Exception classes whose text a user reads."""

REMEDY = re.compile(
    r"\b(give|send|check|set|raise|choose|did you mean|save|make|start|remove|name|try|write|correct|rename|leave|see|nodes:|allow|look|"
    r"has every setting|is an example|has an example|explain|must be the part|prints what|bundled:)\b|\bnodes: ",
    re.IGNORECASE,
)

OTHERS = {"cli/commands/doctor.py", "kube/api_client.py"}
"""Files whose errors have tests of their own."""


def _words(node: ast.AST) -> str:
    """All literal text of an expression, and the names it fills in as `{}`."""
    return " ".join(part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _names(node: ast.AST) -> set[str]:
    """Names and attributes that an expression uses."""
    return {part.id if isinstance(part, ast.Name) else part.attr for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)}


def raised() -> Iterator[tuple[str, str]]:
    """(place, literal text) of every error that is raised with text of its own; one that passes on another of ours is left out."""
    for path in sorted((ROOT / "extender").rglob("*.py")):
        file = str(path.relative_to(ROOT / "extender"))
        if file in OTHERS:
            continue
        tree = ast.parse(path.read_text())
        constants = {
            target.id: _words(statement.value)
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        passed_on = {
            id(node)
            for handler in ast.walk(tree)
            if isinstance(handler, ast.ExceptHandler) and handler.type is not None and _names(handler.type) & set(ERRORS)
            for node in ast.walk(handler)
        }
        for node in ast.walk(tree):
            if id(node) in passed_on or not (
                isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
            ):
                continue
            if node.exc.func.id not in ERRORS or not node.exc.args:
                continue
            names = _names(node.exc)
            if names & {"remedy", "detail"}:  # what to do is filled in
                continue
            text = " ".join([_words(node.exc), *(constants.get(name, "") for name in names)])
            calls = any(isinstance(part, ast.Call) for part in ast.walk(node.exc.args[0]))
            if text.strip() and not (calls and not re.search(r"[a-z]{3} [a-z]", text)):
                yield f"{file}:{node.lineno}", text


RAISED = dict(raised())


@pytest.mark.parametrize("place", RAISED)
def test_raised_error_says_what_to_do(place: str) -> None:
    assert REMEDY.search(RAISED[place]), RAISED[place]


def test_raised_errors_are_collected_from_the_source() -> None:
    assert len(RAISED) > 30


# body of POST /v1/explain -> what is wrong and what to do
EXPLAINED: dict[str, tuple[bytes, str, str]] = {
    "another kind": (b'{"kind": "Service", "spec": {}}', "expected a Pod, got a Service", "give one of the supported kinds: Pod"),
    "a list": (b"[1, 2]", "an object with metadata and spec", "give one of the supported kinds"),
    "a wrong type": (b'{"spec": {"containers": 4}}', "$.spec.containers", "kubectl explain pod"),
    "pods that say nothing": (b"kind: Pod\n---\nkind: Pod\n", "got a Pod without a spec", "give one of the supported kinds"),
    "no YAML": (b"a: [", "neither JSON nor YAML", "Correct"),
    "too large": (b" " * (4 << 20), "larger than the limit of 3145728 bytes", "send the manifest of one pod"),
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_a_pod_that_cannot_be_explained_is_answered_with_a_remedy(served: Served, case: str) -> None:
    body, wrong, remedy = EXPLAINED[case]
    response = served.client.post("/v1/explain", content=body)
    assert response.status_code == 400
    assert wrong in response.json()["error"]
    assert remedy in response.json()["error"]


# (verb, body) -> what is wrong and what to do
ASKED: dict[str, tuple[str, bytes, str, str]] = {
    "no JSON": ("filter", b"x", "request body is not ExtenderArgs", "/docs has an example"),
    "no pod": ("filter", b"{}", "Pod", "/docs has an example"),
    "a node without a name": (
        "filter",
        b'{"Pod": {"metadata": {}, "spec": {}}, "Nodes": {"items": [1]}}',
        "Nodes.items[0]",
        "send whole Nodes, or NodeNames",
    ),
    "a binding without a node": (
        "bind",
        b'{"PodName": "a", "PodNamespace": "d", "PodUID": "b", "Node": ""}',
        "Node is empty",
        "/docs has an example",
    ),
    "ten megabytes": ("filter", b" " * (10 << 20), "larger than the limit", "nodeCacheCapable: true"),
}


@pytest.mark.parametrize("case", ASKED)
def test_verb_answers_an_invalid_request_with_a_remedy(served: Served, case: str) -> None:
    verb, body, wrong, remedy = ASKED[case]
    response = served.client.post(f"/scheduler/{verb}", content=body)
    assert response.status_code == 200
    assert wrong in response.json()["Error"]
    assert remedy in response.json()["Error"]


def test_verb_without_an_error_field_returns_the_error_in_a_header(served: Served) -> None:
    response = served.client.post("/scheduler/prioritize", content=b"x")
    assert response.json() == []
    assert "/docs has an example" in response.headers["X-Fabricwise-Error"]


@pytest.mark.parametrize("path", ["/v1/nodes/{}", "/v1/nodes/{}/report"])
def test_an_unknown_node_is_answered_with_the_likely_ones(served: Served, path: str) -> None:
    close = served.client.get(path.format("hgx-h100-O"))
    assert close.status_code == 404
    assert "no node 'hgx-h100-O' is known: did you mean hgx-h100-0" in close.json()["error"]
    far = served.client.get(path.format("zzz")).json()["error"]
    assert "no node 'zzz' is known; nodes: a100-pcie-bridge-pairs-0" in far
    assert far.endswith("all in /v1/nodes")


def test_pod_with_an_invalid_annotation_is_explained_with_a_remedy(served: Served) -> None:
    answer = served.client.post("/v1/explain", content=json.dumps(pod(1, annotations={"fabricwise.dev/min-gpu-memory": "80"}))).json()
    assert "did you mean 80Gi?" in answer["demand"]["problem"]
    assert all("did you mean 80Gi?" in row["rejection"]["detail"] for row in answer["nodes"])


def test_an_unknown_path_is_a_404(served: Served) -> None:
    response: httpx.Response = served.client.get("/nothing")
    assert response.status_code == 404
