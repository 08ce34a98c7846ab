"""The check of `Host`: a page of a name that an attacker can register reads nothing of the cluster, and no program is kept out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.command_header import COMMAND_HEADERS
from extender.errors import SettingsError
from extender.scheduling.ports import Cluster
from extender.server.own_names import own_names
from extender.settings import Settings
from extender.settings_contradictions import check_settings
from extender.web.access.host_check import AllowedNames, refusal_of
from tests.web.asgi_calls import RawHeaders, call
from tests.web.live_clusters import KUBERNETES, small_service
from tests.web.token_server import CountingReviews

LISTED = ("fabricwise.example.com", "*.gpu.example.org")

# value of Host -> status; None: the request passes
HOSTS: dict[str, int | None] = {
    "localhost": None,
    "localhost:8889": None,
    "LOCALHOST:8889": None,
    "ui.localhost:8889": None,
    "127.0.0.1:8889": None,
    "10.244.3.7:8889": None,
    "[::1]:8889": None,
    "[fd00::1]": None,
    "[fe80::1%25eth0]:8889": None,
    "[::ffff:10.0.0.1]:8889": None,
    "extender": None,
    "testserver": None,
    "fabricwise.fabricwise-system.svc:8889": None,
    "fabricwise.fabricwise-system.svc.cluster.local": None,
    "10-244-3-7.fabricwise-system.pod.cluster.local:8889": None,
    "fabricwise.example.com": None,
    "Fabricwise.Example.COM.:443": None,
    "a.gpu.example.org": None,
    "a.b.gpu.example.org:80": None,
    "evil.example": 421,
    "evil.example:8889": 421,
    "evil.example.": 421,
    "fabricwise.example.com.evil.example": 421,
    "xfabricwise.example.com": 421,
    "gpu.example.org": 421,
    "xgpu.example.org": 421,
    "localhost.evil.example": 421,
    "notlocalhost.evil": 421,
    "fabricwise.fabricwise-system.svc.evil.example": 421,
    "x.cluster.local.evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "_x.evil.example": 421,
    "127.1": 421,
    "": 400,
    ":8889": 400,
    ".": 400,
    "..": 400,
    "evil..example": 400,
    "-evil.example": 400,
    "evil.example:port": 400,
    "evil.example:99999": 400,
    "evil.example:-1": 400,
    "evil.example/path": 400,
    "user@localhost": 400,
    "http://localhost": 400,
    "localhost, evil.example": 400,
    "local host": 400,
    "<img src=x>": 400,
    "[::1": 400,
    "::1": 400,
    "[:::1]": 400,
    "[1.2.3.4]": 400,
    "[]": 400,
    "\xe9vil.example": 400,
    "x" * 64 + ".example": 400,
    ("x" * 60 + ".") * 4 + "example.example.example": 400,
    "x" * 100_000: 400,
}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host[:60])
def test_host_is_allowed_misdirected_or_malformed(host: str) -> None:
    refusal = refusal_of(host.encode("latin-1"), AllowedNames(LISTED))
    assert (None if refusal is None else refusal.status) == HOSTS[host]


@given(st.binary(max_size=400))
def test_any_bytes_in_host_are_answered_with_a_short_error_or_pass(host: bytes) -> None:
    refusal = refusal_of(host, AllowedNames(LISTED))
    assert refusal is None or (refusal.status in (400, 421) and refusal.error.isascii() and len(refusal.error) < 700)


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(st.lists(LABELS, min_size=1, max_size=6), st.sampled_from(["evil.example", "example.com", "svc.example.net", "local"]))
def test_no_name_below_a_domain_that_is_not_listed_passes(labels: list[str], domain: str) -> None:
    name = ".".join([*labels, domain])
    refusal = refusal_of(name.encode(), AllowedNames(["*.example.org"]))
    is_own = name.endswith(".cluster.local")
    assert is_own == (refusal is None)
    assert refusal is None or (refusal.status == 421 and name in refusal.error)


DATA = ["/", "/v1/cluster", "/v1/pods", "/v1/nodes", "/nodes/t4-0", "/docs", "/openapi.json"]
FOR_PROGRAMS = ["/healthz", "/readyz", "/metrics"]
EVIL = [(b"host", b"evil.example:8888")]


@pytest.mark.parametrize("path", DATA)
def test_page_of_another_name_reads_nothing_and_is_told_the_setting(path: str) -> None:
    service, _ = small_service()
    answered = call(service.debug_app, path, raw_headers=EVIL)
    assert answered.status == 421, answered.text
    error = json.loads(answered.text)["error"]
    assert "evil.example is not known as a name of this server" in error
    assert "server.debug_hosts" in error
    assert answered.headers["content-security-policy"]
    assert call(service.debug_app, path, raw_headers=[(b"host", b"localhost:8888")]).status == 200


UNROUTED = ["//v1/cluster", "/V1/cluster", "/scheduler/../v1/cluster", "/healthz/../v1/cluster", "/metrics/v1/cluster", "/./v1/cluster"]


@pytest.mark.parametrize("path", UNROUTED)
def test_no_spelling_of_a_path_gets_past_the_check(path: str) -> None:
    service, _ = small_service()
    answered = call(service.debug_app, path, raw_headers=EVIL)
    assert answered.status in (404, 421)
    assert "totals" not in answered.text


def test_programs_reach_verbs_health_and_metrics_by_any_name() -> None:
    service, _ = small_service()
    for path in FOR_PROGRAMS:
        assert call(service.app, path, raw_headers=EVIL).status == 200, path
    assert call(service.app, "/livez", raw_headers=EVIL).status == 404, "there is no such path; it is not refused for its host"
    for verb in ("filter", "prioritize", "preempt", "bind"):
        assert call(service.app, f"/scheduler/{verb}", "POST", raw_headers=EVIL).status != 421, verb


def test_debug_port_of_its_own_is_checked_too() -> None:
    service, _ = small_service(debug_port=8889)
    assert call(service.debug_app, "/v1/cluster", raw_headers=EVIL).status == 421
    assert call(service.app, "/healthz", raw_headers=EVIL).status == 200


def test_listed_names_pass() -> None:
    service, _ = small_service(debug_hosts=("evil.example", "*.example.com"))
    assert call(service.debug_app, "/v1/cluster", raw_headers=EVIL).status == 200
    assert call(service.debug_app, "/v1/cluster", host="ui.example.com").status == 200
    assert call(service.debug_app, "/v1/cluster", host="example.com").status == 421


REQUESTS: Mapping[str, tuple[RawHeaders, int]] = {
    "two hosts": ([(b"host", b"localhost"), (b"host", b"evil.example")], 400),
    "two equal hosts": ([(b"host", b"localhost"), (b"host", b"localhost")], 400),
    "no host": ([], 200),
    "a page that pretends to come through a proxy": ([*EVIL, (b"x-forwarded-host", b"localhost"), (b"forwarded", b"host=localhost")], 421),
    "a command that the service proxy passes on by the API server's name": (
        [(b"host", b"a1b2.gr7.eu-north-1.eks.amazonaws.com"), *((n.lower().encode(), v.encode()) for n, v in COMMAND_HEADERS.items())],
        200,
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_headers_of_a_request_decide_whether_it_is_answered(case: str) -> None:
    headers, status = REQUESTS[case]
    service, _ = small_service()
    assert call(service.debug_app, "/v1/cluster", raw_headers=headers).status == status


def test_a_page_in_a_browser_cannot_set_the_header_of_commands() -> None:
    assert all(name.lower().startswith("sec-") for name in COMMAND_HEADERS), "the Fetch standard forbids pages this prefix"


def test_with_tokens_every_name_is_answered_because_a_page_has_no_token() -> None:
    service, _ = small_service(cluster=Cluster(reviews=CountingReviews({"viewer": {("get", "/v1/cluster")}})), debug_auth=KUBERNETES)
    assert call(service.debug_app, "/v1/cluster", raw_headers=EVIL).status == 401
    assert call(service.debug_app, "/v1/cluster", raw_headers=EVIL, authorization="Bearer viewer-token").status == 200


RESOLVER_FILES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "pod": ("search ns.svc.gpu.corp svc.gpu.corp gpu.corp\nnameserver 10.0.0.10\noptions ndots:5\n", ("*.svc.gpu.corp",)),
    "the last line counts": ("search svc.a.example\nsearch ns.svc.b.example SVC.b.example. b.example\n", ("*.svc.b.example",)),
    "machine outside a cluster": ("nameserver 10.0.0.1\nsearch corp.example\n", ()),
    "no search domain": ("search\n", ()),
    "empty": ("", ()),
    "missing": (None, ()),
    "not text": ("\xff\x00search svc.x", ()),
}


@pytest.mark.parametrize("case", RESOLVER_FILES)
def test_own_names_are_the_host_name_and_services_of_the_clusters_domain(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, expected = RESOLVER_FILES[case]
    if text is not None:
        (tmp_path / "resolv.conf").write_bytes(text.encode("latin-1"))
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-7.corp.example")
    found = own_names(tmp_path / "resolv.conf")
    assert found == ("gpu-7.corp.example", *expected)
    allowed = AllowedNames(found)
    assert refusal_of(b"gpu-7.corp.example:8888", allowed) is None
    assert (refusal_of(b"fabricwise.ns.svc.gpu.corp", allowed) is None) is (case == "pod")


WRONG: dict[str, Any] = {
    "scheme": "https://fabricwise.example.com",
    "port": "fabricwise.example.com:8889",
    "path": "fabricwise.example.com/",
    "every name": "*",
    "star inside": "a.*.example.com",
    "space": "a b",
    "empty": "",
    "not ASCII": "f\xe4bric.example",
}


@pytest.mark.parametrize("case", WRONG)
def test_setting_that_is_no_host_name_is_an_error(case: str) -> None:
    settings = msgspec.convert({"server": {"debug_hosts": ["fine.example.com", WRONG[case]]}}, Settings)
    with pytest.raises(SettingsError, match=r"here: server\.debug_hosts: .* is not a host name: write a name such as"):
        check_settings(settings, "here")


@pytest.mark.parametrize(
    "host", ["fabricwise.example.com", "*.example.com", "Fabricwise.Example.com.", "xn--fbric-ira.example", "intern", "a_b.c"]
)
def test_setting_takes_names_and_suffixes(host: str) -> None:
    check_settings(msgspec.convert({"server": {"debug_hosts": [host]}}, Settings), "here")
