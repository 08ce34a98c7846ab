"""The names of the nodes that a request is about, with what has been looked up of all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import overload
from zlib import crc32

import numpy as np
from numpy.typing import NDArray


class NodeNames(Sequence[str]):
    """Names of nodes, in order. Immutable by convention, except that look-ups are kept."""

    __slots__ = ("_hashes", "rows", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.rows: tuple[object, NDArray[np.intp]] | None = None
        """(the set of rows of a `NodeTable`, the row of each name there), once they are looked up."""
        self._hashes: NDArray[np.uint32] | None = None

    @classmethod
    def of(cls, names: Iterable[str]) -> NodeNames:
        """Return the names in this form."""
        return names if isinstance(names, NodeNames) else cls(list(names))

    def chosen(self, chosen: NDArray[np.bool_]) -> NodeNames:
        """Return the names for which `chosen`, one value per name, is True."""
        names = NodeNames(list(compress(self.texts, chosen.tolist())))
        if self.rows is not None:
            names.located(self.rows[0], self.rows[1][chosen], self.hashes[chosen])
        return names

    def located(self, row_set: object, rows: NDArray[np.intp], hashes: NDArray[np.uint32]) -> None:
        """Keep the row of each name in a `NodeTable`, and its hash; see `rows` and `hashes`."""
        self.rows, self._hashes = (row_set, rows), hashes

    @property
    def hashes(self) -> NDArray[np.uint32]:
        """`hash_of` each name; 0 for a node that the `NodeTable` does not know."""
        if self._hashes is None:
            self._hashes = np.fromiter(map(hash_of, self.texts), np.uint32, len(self.texts))
        return self._hashes

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> NodeNames: ...
    def __getitem__(self, index: int | slice) -> str | NodeNames:
        return NodeNames(self.texts[index]) if isinstance(index, slice) else self.texts[index]


def hash_of(name: str) -> int:
    """Return the CRC-32 of a name: the same in every replica, unlike Python's hash."""
    return crc32(name.encode(errors="surrogatepass"))
