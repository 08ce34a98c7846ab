"""`python -m tests.cluster.assets` gets the real binaries ready and prints their paths; exit status 1 if one cannot be had."""

from __future__ import annotations

import sys

from tests.cluster.assets.kube_assets import BINARIES, MissingAssetError, etcd_binary, kubernetes_binary


def main() -> int:
    """Print where the binaries are; 1 and the reason on standard error if one cannot be had."""
    try:
        print(etcd_binary(), *(kubernetes_binary(name) for name in BINARIES), sep="\n")
    except MissingAssetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
