"""The checks of `topo import` and `topo show` on their options and on a matrix: node name, memory, product and CPU. Pure."""

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
"""Bounds of the memory of a data-centre GPU: 1 GiB to 4 TiB."""


def node_name(name: str) -> str:
    """Return the name if it is valid for a Kubernetes node, an RFC 1123 subdomain. Raises ValueError saying what is wrong."""
    if len(name) > 253:
        raise ValueError(f"a node's name has at most 253 characters, this one {len(name)}")
    if not _SUBDOMAIN.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid node name: lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
            " (RFC 1123 subdomain); see `kubectl get nodes`"
        )
    return name


def gpu_memory_bytes(memory: str) -> int:
    """Return the bytes of memory per GPU of a Kubernetes quantity. Raises ValueError outside the bounds."""
    memory_bytes = int(quantity(memory))
    if not LEAST_MEMORY_BYTES <= memory_bytes <= MOST_MEMORY_BYTES:
        suggestion = f"; {memory}Gi?" if memory.isdigit() else ""
        raise ValueError(f"{memory!r} is {memory_bytes} bytes per GPU, and GPUs have 1Gi to 4Ti{suggestion}")
    return memory_bytes


def warnings(capture: Capture, product: str | None = None, cpu: str | None = None) -> tuple[str, ...]:
    """Return sentences on what is doubtful in a capture: its contradictions, and an unknown product or CPU model."""
    sentences = [*capture.notes, *(contradiction.says for contradiction in contradictions(capture.machine))]
    if product is not None and facts(product) is None:
        sentences.append(f"product {product!r} is not known: links and PCIe generation are assumed; `nvidia-smi -L` prints the name")
    if cpu is not None and not knows_cpu(cpu):
        sentences.append(f"CPU model {cpu!r} is not known: the socket link is assumed; `lscpu` prints the model")
    return tuple(sentences)
