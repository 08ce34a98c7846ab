"""`python -m tests.krew FOLDER URL`: build the archive for this machine into FOLDER, and print the manifest for the archives there."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from tests.checkout import ROOT
from tests.krew.plugin_archive import write_archive
from tests.krew.plugin_manifest import released

PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def archive_name() -> str:
    """Return the name of the archive for this machine."""
    return f"fabricwise_{sys.platform}_{PROCESSORS.get(platform.machine(), platform.machine())}.tar.gz"


def main(folder: str, url: str) -> None:
    """Build and print."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    write_archive(out / archive_name())
    print(released((ROOT / "manifests/krew/fabricwise.yaml").read_text(), url, sorted(out.glob("fabricwise_*.tar.gz"))), end="")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
