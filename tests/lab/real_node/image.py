"""The one image of the lab: a static file that waits, as an OCI archive for `ctr image import`."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

NAME = "fabricwise.lab/pause:1"
_SOURCE = Path(__file__).parent / "pause.c"
_TYPE = "application/vnd.oci.image"


def make(compiler: Path, folder: Path) -> Path:
    """Compile and pack it into `folder`; the archive's path."""
    program = folder / "pause"
    subprocess.run([str(compiler), "-static", "-Os", "-o", str(program), str(_SOURCE)], check=True)
    layer = _tar([("pause", program.read_bytes(), 0o755)])
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"{_TYPE}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    target = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()), "os": "linux"}
    layers = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    config = json.dumps({**target, "config": {"Entrypoint": ["/pause"]}, "rootfs": layers}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": blob(config, "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar")],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry |= {"annotations": {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1"}, "platform": target}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644), ("index.json", index, 0o644)]
    archive = folder / "pause.tar"
    archive.write_bytes(_tar([*files, *((f"blobs/sha256/{digest}", data, 0o644) for digest, data in blobs.items())]))
    return archive


def _tar(entries: list[tuple[str, bytes, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data, mode in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
