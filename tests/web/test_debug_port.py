"""The debug port: what is on which port, and which headers every answer has."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml

from extender.errors import SettingsError
from extender.server.http_servers import serve_debug
from extender.settings import Settings, Tls
from extender.settings_contradictions import check_settings
from tests.certificates import Authority
from tests.checkout import ROOT
from tests.cluster.processes.control_plane import free_port
from tests.waiting import wait
from tests.web.live_clusters import served_debug, served_verbs, small_service

ON_VERBS = ["/healthz", "/readyz", "/metrics"]
ON_DEBUG = ["/v1/nodes", "/v1/cluster", "/v1/history", "/docs", "/openapi.json", "/", "/nodes/t4-0"]


def test_with_a_debug_port_each_path_is_on_one_port_alone() -> None:
    service, _ = small_service(debug_port=free_port())
    with served_verbs(service) as verbs, served_debug(service) as debug:
        for path in ON_VERBS:
            assert (verbs.get(path).status_code, debug.get(path).status_code) == (200, 404), path
        for path in ON_DEBUG:
            assert (verbs.get(path).status_code, debug.get(path).status_code) == (404, 200), path
        assert verbs.post("/scheduler/filter", content=b"").status_code == 200
        assert debug.post("/scheduler/filter", content=b"").status_code == 404


def test_without_a_debug_port_all_is_on_one_port() -> None:
    service, _ = small_service()
    with served_verbs(service) as client:
        assert {client.get(path).status_code for path in ON_VERBS + ON_DEBUG} == {200}
        assert client.post("/scheduler/filter", content=b"").status_code == 200
        assert client.get("/scheduler/nothing").status_code == client.post("/nothing").status_code == 404


def test_debug_port_has_a_thread_of_its_own_and_ends_with_the_verbs() -> None:
    port = free_port()
    service, _ = small_service(debug_port=port)
    with served_verbs(service):
        serve_debug(service, "127.0.0.1")
        url = f"http://127.0.0.1:{port}"
        wait("the debug port is open", lambda: _status(httpx, f"{url}/v1/cluster") == 200)
        assert any(thread.name == "debug" for thread in threading.enumerate())
        with httpx.stream("GET", f"{url}/v1/stream", timeout=10) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: resync"
            service.feed.close()
            assert "event: end" in list(lines)


def _status(client: Any, url: str) -> int:
    """The status of a GET by a client, or by the module httpx; 0 where there is no answer."""
    try:
        return int(client.get(url, timeout=5).status_code)
    except httpx.HTTPError:
        return 0


EXPECTED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize("path", [*ON_DEBUG, "/nothing", "/v1/nothing", "/v1/stream"])
def test_every_answer_limits_what_a_browser_does(path: str) -> None:
    service, _ = small_service(max_streams=0)
    with served_debug(service) as client:
        headers = client.get(path).headers
    assert {name: headers.get(name) for name in EXPECTED} == EXPECTED
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert policy["connect-src"] == "'self'"
    assert ("unsafe-inline" in policy["style-src"]) is (path == "/docs"), "Swagger UI writes styles"
    is_page = headers["content-type"].startswith("text/html") and path != "/docs"
    assert headers["cache-control"] in (("no-store", "no-cache") if is_page else ("no-store",)), "a browser may keep a page that it checks"


def test_page_of_the_api_may_run_its_own_script_alone() -> None:
    service, _ = small_service()
    with served_debug(service) as client:
        response = client.get("/docs")
    scripts = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(digests) == 1
    assert f"script-src 'self' 'sha256-{digests[0]}';" in response.headers["content-security-policy"]


def test_answers_to_kube_scheduler_have_no_headers_for_browsers() -> None:
    service, _ = small_service()
    with served_verbs(service) as client:
        headers = client.post("/scheduler/filter", content=b"").headers
    assert "content-security-policy" not in headers


def test_two_ports_with_one_number_are_an_error() -> None:
    settings = msgspec.convert({"server": {"debug_port": 8889, "health_port": 8889}}, Settings)
    with pytest.raises(SettingsError, match=r"server\.debug_port and server\.health_port are both 8889"):
        check_settings(settings, "here")


def test_manifests_name_the_debug_port_everywhere_alike() -> None:
    objects = list(yaml.safe_load_all((ROOT / "manifests/base/extender.yaml").read_text()))
    by_kind = {each["kind"]: each for each in objects}
    configured = yaml.safe_load(by_kind["ConfigMap"]["data"]["extender.yaml"])["server"]["debug_port"]
    (service_port,) = [port for port in by_kind["Service"]["spec"]["ports"] if port["name"] == "debug"]
    (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    (container_port,) = [port for port in container["ports"] if port["name"] == "debug"]
    opened = yaml.safe_load((ROOT / "manifests/debug-tokens/open-port.yaml").read_text())["spec"]["ingress"][0]["ports"][0]["port"]
    assert configured == service_port["port"] == container_port["containerPort"] == opened
    closed = yaml.safe_load((ROOT / "manifests/base/network-policy.yaml").read_text())["spec"]["ingress"]
    assert configured not in [port["port"] for rule in closed for port in rule["ports"]]


def test_debug_port_has_the_certificates_of_the_verbs(tmp_path: Path) -> None:
    authority = Authority("debug")
    ca_file = authority.write(tmp_path / "ca.crt")
    cert_file, key_file = authority.issue(tmp_path, "server")
    port = free_port()
    service, _ = small_service(debug_port=port, tls=Tls(cert_file=str(cert_file), key_file=str(key_file)))
    serve_debug(service, "127.0.0.1")
    try:
        with httpx.Client(verify=ssl.create_default_context(cafile=str(ca_file)), base_url=f"https://127.0.0.1:{port}") as client:
            wait("the debug port is open", lambda: _status(client, "/v1/cluster") == 200)
        assert _status(httpx, f"http://127.0.0.1:{port}/v1/cluster") == 0, "plain HTTP is not answered"
    finally:
        service.feed.close()
