"""The generated protobuf modules, made anew from their `.proto` files: `make protobuf` writes them, a test compares them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.checkout import ROOT

PROTO = Path("topology/agent/pod_resources.proto")
MODULES = tuple(PROTO.with_name(f"{PROTO.stem}_pb2{suffix}") for suffix in (".py", ".pyi"))
"""The module and its types; paths from the repository's root."""

HEADER = f"# Generated from {PROTO} by `make protobuf`: change that file, not this one.\n"


def generated(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of each of `MODULES`, as the installed grpcio-tools makes it from the `.proto` file under `root`.

    Raises ImportError where grpcio-tools is not installed, and ValueError where protoc refuses the file.
    """
    from grpc_tools import protoc

    bundled = resources.files("grpc_tools") / "_proto"
    with TemporaryDirectory() as folder:
        options = [f"--proto_path={root}", f"--proto_path={bundled}", f"--python_out={folder}", f"--pyi_out={folder}"]
        status: int = protoc.main(["protoc", *options, str(PROTO)])
        if status != 0:
            raise ValueError(f"protoc refuses {PROTO}; its message is above")
        return {module: HEADER + (Path(folder) / module).read_text() for module in MODULES}


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).write_text(text)
