"""Names of nodes, pods and other objects as a journal has them: as they are, or hidden.

A hidden name is another text, the same wherever the name occurs in one journal. Two properties of names have an effect on decisions, and a
hidden name keeps both: the order in which names sort, and the CRC-32 of nodes' names and pods' keys, which decides between equal nodes
(`scorers.Ranks.decided`). Every CRC-32 is changed by the same random number, so that the exclusive or of any two is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Protocol
from zlib import crc32


class Names(StrEnum):
    """What a name names. Names of different kinds are never compared with each other."""

    NODE = "node"
    KEY = "uid"
    """`Pod.key`: a uid, or namespace/name."""
    NAMESPACE = "ns"
    POD = "pod"
    GPU = "gpu"
    """Uuid of a GPU or of a MIG device."""
    FABRIC = "fabric"
    """Uuid of a multi-node NVLink fabric."""
    GROUP = "group"
    """Name of a PodGroup."""
    CLAIM = "claim"
    """Name of a ResourceClaim or of a template of one."""
    OBJECT = "object"
    """Name of a ResourceSlice or DeviceTaintRule."""
    POOL = "pool"
    """Name of a pool of devices."""
    LABEL = "value"
    """Value of a label that workload classes read."""


class Naming(Protocol):
    """How a journal writes names."""

    is_hidden: bool
    """Whether names are hidden. Texts for people are left out then, because they can contain names."""

    def name(self, kind: Names, text: str) -> str:
        """Return the text for a name."""
        ...

    def name_if_known(self, kind: Names, text: str) -> str:
        """Return the text for a name that occurs elsewhere as this kind; any other text unchanged."""
        ...


class PlainNames:
    """Names as they are."""

    is_hidden = False

    def name(self, _kind: Names, text: str) -> str:
        """Return the name."""
        return text

    name_if_known = name


class CollectedNames:
    """Collects names; the texts that it returns are of no use."""

    is_hidden = True

    def __init__(self) -> None:
        self.texts: dict[Names, set[str]] = {kind: set() for kind in Names}

    def name(self, kind: Names, text: str) -> str:
        """Collect a name, and return it."""
        self.texts[kind].add(text)
        return text

    def name_if_known(self, _kind: Names, text: str) -> str:
        """Return the text."""
        return text


class HiddenNames:
    """Hidden names for those that were collected."""

    is_hidden = True

    def __init__(self, collected: CollectedNames, mask: int) -> None:
        """`mask`: a random number of 32 bits that is not stored; every CRC-32 is changed by it.

        Namespaces are sorted as in namespace/name, where a slash follows.
        """
        self._texts: dict[Names, Mapping[str, str]] = {}
        for kind, texts in collected.texts.items():
            ranked = sorted(texts, key=lambda text: f"{text}/") if kind is Names.NAMESPACE else sorted(texts)
            width = len(str(len(ranked)))
            prefixes = (f"{kind}-{rank:0{width}d}-" for rank in range(len(ranked)))
            self._texts[kind] = {
                text: with_crc32(prefix, crc32(text.encode(errors="surrogatepass")) ^ mask)
                for text, prefix in zip(ranked, prefixes, strict=True)
            }

    def name(self, kind: Names, text: str) -> str:
        """Return the hidden name. Raises KeyError for a name that was not collected."""
        return self._texts[kind][text]

    def name_if_known(self, kind: Names, text: str) -> str:
        """Return the hidden name of a name that was collected; any other text unchanged."""
        return self._texts[kind].get(text, text)


_DIGITS = 12
"""Octal digits that are appended: 36 bits, which reach every CRC-32."""


def with_crc32(prefix: str, wanted: int) -> str:
    """Return the prefix with twelve octal digits appended, so that the CRC-32 of the text is `wanted`.

    The CRC is affine over GF(2): each bit of an appended digit changes it by a constant, so the bits follow from a system of 32 equations.
    """
    difference = crc32(f"{prefix}{'0' * _DIGITS}".encode()) ^ wanted
    bits = 0
    while difference:
        change, chosen = _basis()[difference.bit_length() - 1]
        difference, bits = difference ^ change, bits ^ chosen
    return prefix + "".join(str(bits >> 3 * place & 7) for place in range(_DIGITS))


@cache
def _basis() -> Mapping[int, tuple[int, int]]:
    """Return leading bit -> (a change of the CRC-32 with that leading bit, the bits of the digits that cause it), for all 32 bits."""
    zero = crc32(b"0" * _DIGITS)
    rows: dict[int, tuple[int, int]] = {}
    for bit in range(3 * _DIGITS):
        digits = bytearray(b"0" * _DIGITS)
        digits[bit // 3] |= 1 << bit % 3
        change, chosen = crc32(bytes(digits)) ^ zero, 1 << bit
        while change and (known := rows.get(change.bit_length() - 1)) is not None:
            change, chosen = change ^ known[0], chosen ^ known[1]
        if change:
            rows[change.bit_length() - 1] = (change, chosen)
    assert len(rows) == 32, "the digits do not reach every CRC-32"
    return rows
