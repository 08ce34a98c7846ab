"""The connection of a process that must stay small, to a real HTTPS server; and what such a process does not load."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest
import urllib3
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from extender.errors import ClusterSourceError
from extender.kube.small_connection import connection
from tests.kube.api_server import kubeconfig

HOST = "127.0.0.1"


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Files with a certificate for `HOST` and its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


@contextmanager
def https(certificate: Path, key: Path) -> Iterator[int]:
    """A server that answers with the request's Authorization header; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.headers.get("Authorization", "none").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not news."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def in_cluster(port: int = 443, host: str = HOST) -> dict[str, str]:
    """The environment of a pod."""
    return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The folder of a service account whose server certificate is in `tmp_path`."""
    folder = tmp_path / "account"
    folder.mkdir()
    certificate, _ = self_signed(tmp_path)
    (folder / "ca.crt").write_bytes(certificate.read_bytes())
    (folder / "token").write_text("first\n")
    return folder


def test_pod_reaches_the_api_server_with_the_newest_token_of_its_service_account(account: Path, tmp_path: Path) -> None:
    with https(tmp_path / "server.crt", tmp_path / "server.key") as port:
        found = connection(None, account, in_cluster(port))
        answers = []
        for token in ("first", "rotated"):
            (account / "token").write_text(token)
            answers.append(found.pool.request("GET", f"{found.url}/", headers=found.headers(), retries=False).data)
    assert answers == [b"Bearer first", b"Bearer rotated"]


def test_server_that_the_service_account_does_not_vouch_for_is_not_trusted(account: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with https(*self_signed(other)) as port:
        found = connection(None, account, in_cluster(port))
        with pytest.raises(urllib3.exceptions.SSLError):
            found.pool.request("GET", f"{found.url}/", headers=found.headers(), retries=False)


def test_address_of_the_sixth_version_is_in_brackets(account: Path) -> None:
    assert connection(None, account, in_cluster(6443, "fd00::1")).url == "https://[fd00::1]:6443"


@pytest.mark.parametrize("token", [None, b"", b"\xff\xfe", b"one\ntwo"], ids=["missing", "empty", "binary", "two lines"])
def test_token_that_cannot_be_used_is_named_with_a_remedy(account: Path, token: bytes | None) -> None:
    (account / "token").unlink()
    if token is not None:
        (account / "token").write_bytes(token)
    with pytest.raises(ClusterSourceError, match=r"token.*check the pod's service account"):
        connection(None, account, in_cluster()).headers()


def test_pod_without_a_mounted_service_account_is_told_to_mount_it(tmp_path: Path) -> None:
    with pytest.raises(ClusterSourceError, match="automountServiceAccountToken"):
        connection(None, tmp_path, in_cluster())


def test_kubeconfig_that_is_named_takes_precedence_over_the_service_account(account: Path, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig("http://127.0.0.1:9")))
    assert connection(str(path), account, in_cluster()).url == "http://127.0.0.1:9"


HEAVY = ("kubernetes", "typer", "rich", "yaml", "pydantic", "requests", "numpy", "fastapi", "httpx")
PROCESSES = {
    "stands by": ("extender.steering.processes.steer_process", (*HEAVY, "grpc", "urllib3", "prometheus_client", "asyncio")),
    "serves": ("extender.steering.processes.steer_process, extender.steering.processes.serving_process", HEAVY),
}


@pytest.mark.parametrize("what", PROCESSES)
def test_steerer_loads_no_library_that_it_does_not_need(what: str) -> None:
    modules, absent = PROCESSES[what]
    program = f"import sys, {modules}; print(*sorted(set({absent!r}) & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []
