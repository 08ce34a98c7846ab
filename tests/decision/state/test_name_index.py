"""The index of names finds what a dictionary finds, whatever was added and removed."""

from __future__ import annotations

import random

import pytest

from extender.decision.evaluate.by_name.name_index import UNKNOWN_ROW, NameIndex


class Clashing(str):
    """A name whose hash is that of every other such name."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


@pytest.mark.parametrize("kind", [str, Clashing], ids=["own hashes", "one hash for all names"])
@pytest.mark.parametrize("seed", range(5))
def test_index_finds_the_rows_that_a_dictionary_has(kind: type[str], seed: int) -> None:
    chance, rows = random.Random(seed), dict[str, int]()
    index = NameIndex(rows)
    for number in range(1, 2000 if kind is str else 60):
        name = kind(f"node-{chance.randrange(900)}")
        if name not in rows:
            rows[name] = number
            index.add(name, number)
        elif chance.random() < 0.7:
            del rows[name]
            index.remove(name)
        if number % 37 == 0:
            names = [kind(f"node-{chance.randrange(1200)}") for _ in range(200)]
            assert index.rows_of(names).tolist() == [rows.get(each, UNKNOWN_ROW) for each in names]


def test_index_of_no_names_finds_none() -> None:
    assert NameIndex({}).rows_of(["a", "b"]).tolist() == [UNKNOWN_ROW, UNKNOWN_ROW]
    assert NameIndex({}).rows_of([]).tolist() == []
