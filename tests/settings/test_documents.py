"""Loading of JSON and YAML: documents within bounds, or one error that names the place."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.request.quantity import quantity
from extender.loading import MOST_LEVELS, DocumentError, load_documents
from tests.conftest import Served

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
def test_documents_of_usual_texts(case: str) -> None:
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
def test_invalid_text_is_an_error_of_one_line(text: str) -> None:
    with pytest.raises(DocumentError) as error:
        load_documents(text, "here")
    assert "\n" not in str(error.value)


def _laughs(levels: int, width: int = 10) -> str:
    """A manifest that grows tenfold with each level of aliases."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def _merges(levels: int) -> str:
    lines = ["m0: &m0 {a: 1, b: 2, c: 3, d: 4}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}], k{n}: 1}}" for n in range(1, levels)]
    return "\n".join(lines)


EXCESSIVE = {
    "billion laughs": (_laughs(9), "aliases repeat more than 10000 values by line 4"),
    "billion laughs by merge keys": (_merges(9), "aliases repeat more than 10000 values by line"),
    "a large list many times": ("a: &a [" + "x, " * 5_000 + "x]\nb: [*a, *a, *a]", "aliases repeat more than 10000 values by line 2"),
    "an alias inside what it names": ("a: &a [1, *a]", "alias *a on line 1 is inside its own value"),
    "a number in base sixty": ("a: " + "1:" * 300_000 + "1", "a number of 600001 characters on line 1"),
}


@pytest.mark.parametrize("case", EXCESSIVE)
def test_excessive_text_is_refused_before_anything_is_built_of_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, message = EXCESSIVE[case]

    def built(*_args: object, **_more: object) -> None:
        raise AssertionError("the text was constructed")

    monkeypatch.setattr(yaml, "load_all", built)
    with pytest.raises(DocumentError) as error:
        load_documents(text, "here")
    assert message in str(error.value)


def test_aliases_of_a_usual_manifest_are_read() -> None:
    labels = "x-labels: &labels {app: llm, team: a}\n" + "\n".join(f"p{n}: {{labels: *labels}}" for n in range(500))
    (found,) = load_documents(labels, "here")
    assert found["p499"]["labels"] == {"app": "llm", "team": "a"}


def test_explain_refuses_a_pod_of_aliases_as_a_bad_request(served: Served) -> None:
    bomb = _laughs(9) + "\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: *l8}}}]}"
    answer = served.client.post("/v1/explain", content=bomb)
    assert answer.status_code == 400
    assert "aliases repeat more than 10000 values" in answer.json()["error"]


class _NeverShown(dict[str, object]):
    """A structure whose text would have gigabytes, so that no error may contain it."""

    def __repr__(self) -> str:
        raise AssertionError("the text of a huge structure was made")

    __str__ = __repr__


NO_QUANTITIES: dict[str, object] = {
    "huge structure": _NeverShown(),
    "list": [1],
    "null": None,
    "boolean": True,
    "huge integer": 10**5000,
    "many digits": "9" * 5000,
    "huge exponent": "1e999999",
    "infinite": float("inf"),
    "not a number": float("nan"),
}


@pytest.mark.parametrize("case", NO_QUANTITIES)
def test_invalid_quantity_is_refused_with_a_short_sentence(case: str) -> None:
    with pytest.raises(ValueError, match="is not a") as error:
        quantity(NO_QUANTITIES[case])
    assert len(str(error.value)) < 200


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(DocumentError):
        load_documents(text, "here")


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_is_read_as_json(value: object) -> None:
    assert load_documents(json.dumps(value), "here") == [value]
