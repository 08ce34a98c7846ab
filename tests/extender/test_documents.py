"""Text as people and attackers write it: documents, or one error that says where."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.documents import MOST_LEVELS, DocumentError, load_documents

READ = {
    "json": ('{"a": [1, "x", null]}', [{"a": [1, "x", None]}]),
    "yaml": ("a: [1, x, null]", [{"a": [1, "x", None]}]),
    "several, empty ones left out": ("a: 1\n---\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
    "several of JSON": ('{"a": 1}\n---\n{"b": 2}', [{"a": 1}, {"b": 2}]),
    "times stay text": ("at: 2026-01-01T00:00:00Z", [{"at": "2026-01-01T00:00:00Z"}]),
    "an anchor": ("a: &x [1]\nb: *x", [{"a": [1], "b": [1]}]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("case", READ)
def test_reads(case: str) -> None:
    text, documents = READ[case]
    assert load_documents(text, "here") == documents
    assert load_documents(text.encode(), "here") == documents


DEEP = {
    "flow sequences": "[" * 100_000,
    "flow mappings": "{a: " * 100_000,
    "block sequences": "- " * 100_000 + "x",
    "json": '{"a":' * 100_000 + "1" + "}" * 100_000,
}


@pytest.mark.parametrize("case", DEEP)
def test_deep_nesting_is_an_error_not_a_crash(case: str) -> None:
    with pytest.raises(DocumentError, match="here"):
        load_documents(DEEP[case], "here")


def test_a_hundred_levels_of_yaml_are_enough() -> None:
    load_documents("- " * MOST_LEVELS + "x", "here")
    with pytest.raises(DocumentError, match="nested deeper than 100 levels on line 1"):
        load_documents("- " * (MOST_LEVELS + 1) + "x", "here")


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "\x00", "!!python/object:os.system {}", "a: !unknown 1", "*nowhere", "? [a]\n: 1\n? {b: 1}\n: 2"]
)
def test_what_is_no_document_is_one_line(text: str) -> None:
    with pytest.raises(DocumentError) as error:
        load_documents(text, "here")
    assert "\n" not in str(error.value)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(DocumentError):
        load_documents(text, "here")


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_is_read_as_json(value: object) -> None:
    assert load_documents(json.dumps(value), "here") == [value]
