"""A real control plane as processes on loopback: etcd, kube-apiserver, kube-schedulers, and the extender beside them."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.assets.kube_assets import etcd_binary, kubernetes_binary

ACCOUNTS = ("fabricwise", "gpu-scheduler")
"""Service accounts of manifests/base, with only the rights of its RBAC."""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, check: Callable[[], object], seconds: float = 60.0) -> Any:
    """Poll until `check` returns a true value, and return it. Fails naming `what` after the timeout."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except (httpx.HTTPError, KeyError):
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.05)


class Process:
    """A child process and its log; it is signalled only by its own id."""

    def __init__(self, folder: Path, name: str, command: list[str]) -> None:
        self.log, self.name, self._command = folder / f"{name}.log", name, command
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    def kill(self) -> None:
        """kill -9, and wait."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Terminate it; kill it after ten seconds."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        self._child.send_signal(number)
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def tail(self) -> str:
        """Return the end of its log, for a failure message."""
        return self.log.read_text(errors="replace")[-3000:]


class ControlPlane:
    """etcd and kube-apiserver, with a client that is cluster-admin."""

    def __init__(self, folder: Path, api_server_flags: Sequence[str] = (), binary: Callable[[str], Path] = kubernetes_binary) -> None:
        """`api_server_flags`: further flags of kube-apiserver, such as feature gates. `binary`: name -> path, of another version."""
        self.folder, self._api_server_flags, self._binary = folder, tuple(api_server_flags), binary
        self._processes: list[Process] = []
        self.installed: list[dict[str, Any]] = []
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._tokens = {account: secrets.token_hex(16) for account in ("admin", *ACCOUNTS)}
        self.client = httpx.Client(
            base_url=self.url, verify=False, headers={"Authorization": f"Bearer {self._tokens['admin']}"}, timeout=20
        )
        try:
            self._start_etcd()
            self.api_server = self._start_api_server()
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def run(self, name: str, command: list[str]) -> Process:
        """A process that ends with the control plane."""
        process = Process(self.folder, name, command)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End all processes, last started first."""
        self.client.close()
        for process in reversed(self._processes):
            process.stop()

    def wait_ready(self) -> None:
        """Until /readyz says ok."""
        wait_for("kube-apiserver ready", lambda: self.client.get("/readyz").status_code == 200)

    def kubeconfig(self, account: str) -> Path:
        """A kubeconfig for `admin` or for one of the base's service accounts."""
        path = self.folder / f"{account}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "test", "user": {"token": self._tokens[account]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def _start_etcd(self) -> None:
        client, peer = free_port(), free_port()
        self._etcd = f"http://127.0.0.1:{client}"
        command = [str(etcd_binary()), "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync"]
        command += ["--listen-client-urls", self._etcd, "--advertise-client-urls", self._etcd]
        peer_url = f"http://127.0.0.1:{peer}"
        command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}"]
        self.run("etcd", command)
        wait_for("etcd ready", lambda: httpx.get(f"{self._etcd}/health").status_code == 200)

    def _start_api_server(self) -> Process:
        key = self.folder / "service-account.key"
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        tokens = self.folder / "tokens.csv"
        lines = [f'{self._tokens["admin"]},admin,admin,"system:masters"']
        groups = '"system:serviceaccounts,system:authenticated"'
        lines += [f"{self._tokens[a]},system:serviceaccount:fabricwise-system:{a},{a},{groups}" for a in ACCOUNTS]
        tokens.write_text("\n".join(lines) + "\n")
        command = [str(self._binary("kube-apiserver")), "--etcd-servers", self._etcd]
        command += ["--bind-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={self.folder / 'certs'}"]
        command += ["--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC", f"--token-auth-file={tokens}"]
        command += ["--service-account-issuer=https://kubernetes.default.svc"]
        command += [f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"]
        # No controller manager runs here that would create service accounts or remove the not-ready taint.
        command += ["--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"]
        return self.run("kube-apiserver", [*command, *self._api_server_flags])

    def start_scheduler(self, name: str, configuration: dict[str, Any], account: str, *flags: str) -> Process:
        """A kube-scheduler with that configuration, acting as that account."""
        path, kubeconfig = self.folder / f"{name}.yaml", self.kubeconfig(account)
        connection = configuration.get("clientConnection", {}) | {"kubeconfig": str(kubeconfig)}
        path.write_text(yaml.safe_dump(configuration | {"clientConnection": connection}))
        command = [str(self._binary("kube-scheduler")), f"--config={path}", "--bind-address=127.0.0.1"]
        return self.run(name, [*command, f"--secure-port={free_port()}", f"--kubeconfig={kubeconfig}", *flags])

    def apply(self, manifest: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        """Server-side apply of one object. Fails with the server's words."""
        url = self.path(manifest) + (f"/{subresource}" if subresource else "")
        response = self.client.patch(
            url,
            params={"fieldManager": "tests", "force": "true"},
            content=yaml.safe_dump(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert response.status_code in (200, 201), f"{url}: {response.text}"
        applied: dict[str, Any] = response.json()
        return applied

    def path(self, manifest: dict[str, Any]) -> str:
        """The API path of an object, by discovery."""
        group_version, kind = manifest["apiVersion"], manifest["kind"]
        root = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
        found = next(r for r in self.client.get(root).json()["resources"] if r["kind"] == kind and "/" not in r["name"])
        namespace = manifest["metadata"].get("namespace", "default")
        middle = f"/namespaces/{namespace}" if found["namespaced"] else ""
        return f"{root}{middle}/{found['name']}/{manifest['metadata']['name']}"

    def pods(self) -> dict[str, dict[str, Any]]:
        """All pods by name."""
        return {pod["metadata"]["name"]: pod for pod in self.client.get("/api/v1/pods").json()["items"]}

    def node_of(self, pod: str) -> str | None:
        """Where a pod of the default namespace is bound."""
        found: str | None = self.client.get(f"/api/v1/namespaces/default/pods/{pod}").json()["spec"].get("nodeName")
        return found


class Extender:
    """`fabricwise serve --cluster kube` as a process."""

    def __init__(self, plane: ControlPlane, name: str = "extender", config: Path | None = None, wrapper: Sequence[str] = ()) -> None:
        """`wrapper`: a command that is given ours as its arguments."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "extender", "serve", "--cluster", "kube", "--port", str(self.port)]
        command += ["--config", str(config)] if config else []
        self.process = plane.run(name, [*wrapper, *command, "--kubeconfig", str(plane.kubeconfig("fabricwise"))])
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def wait_ready(self) -> None:
        """Until /readyz says ok."""
        wait_for("extender ready", lambda: self.client.get("/readyz").status_code == 200)

    def close(self) -> None:
        """End it, so that it releases its Lease and the extender of the next module can lead."""
        self.client.close()
        self.process.stop()

    def decisions(self, pod: str | None = None) -> list[dict[str, Any]]:
        """GET /v1/decisions."""
        params = {"limit": "1000"} | ({"pod": pod} if pod else {})
        found: list[dict[str, Any]] = self.client.get("/v1/decisions", params=params).json()["decisions"]
        return found
