"""What `topo import` and `topo show` check before they believe a matrix: the node's name, memory, product and CPU. Pure."""

from __future__ import annotations

import re

from extender.decision.request.quantity import quantity
from topology.contradictions import contradictions
from topology.machine.constants import knows_cpu
from topology.machine.matrix import Capture
from topology.machine.products import facts

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES = 1 << 30, 4 << 40
"""No data-centre GPU has less than 1 GiB or more than 4 TiB."""


def node_name(name: str) -> str:
    """The name, if Kubernetes takes it for a node: an RFC 1123 subdomain. Raises ValueError saying what is wrong."""
    if len(name) > 253:
        raise ValueError(f"a node's name has at most 253 characters, this one {len(name)}")
    if not _SUBDOMAIN.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a node: lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
            " (RFC 1123 subdomain); see `kubectl get nodes`"
        )
    return name


def gpu_memory_bytes(memory: str) -> int:
    """Memory per GPU from a quantity. Raises ValueError for what no GPU has."""
    found = int(quantity(memory))
    if not LEAST_MEMORY_BYTES <= found <= MOST_MEMORY_BYTES:
        meant = f"; {memory}Gi?" if memory.isdigit() else ""
        raise ValueError(f"{memory!r} is {found} bytes per GPU, and GPUs have 1Gi to 4Ti{meant}")
    return found


def warnings(capture: Capture, product: str | None = None, cpu: str | None = None) -> tuple[str, ...]:
    """What makes a capture doubtful, in sentences: its contradictions, and names of a product or CPU that nothing is known of."""
    said = [*capture.notes, *(found.says for found in contradictions(capture.machine))]
    if product is not None and facts(product) is None:
        said.append(f"product {product!r} is not known: links and PCIe generation are assumed; `nvidia-smi -L` prints the name")
    if cpu is not None and not knows_cpu(cpu):
        said.append(f"CPU model {cpu!r} is not known: the socket link is assumed; `lscpu` prints the model")
    return tuple(said)
