"""The text format: what is read, what is told, and that nothing makes it raise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from extender.telemetry.exposition import MOST_PROBLEMS, Sample, parse


def every(_name: str) -> bool:
    return True


READ: dict[str, tuple[str, Sample]] = {
    "bare": ("up 1\n", Sample("up", {}, 1.0)),
    "labels": ('m{a="1",b="x y"} 2.5\n', Sample("m", {"a": "1", "b": "x y"}, 2.5)),
    "no labels in braces": ("m{} 3\n", Sample("m", {}, 3.0)),
    "a trailing comma and spaces": ('m{ a = "1" , } 4\n', Sample("m", {"a": "1"}, 4.0)),
    "a brace and a comma in a value": ('m{a="x}{y,z"} 5\n', Sample("m", {"a": "x}{y,z"}, 5.0)),
    "escapes": ('m{a="q\\"b\\\\n\\nl"} 6\n', Sample("m", {"a": 'q"b\\n\nl'}, 6.0)),
    "milliseconds": ("m 7 1790347303000\n", Sample("m", {}, 7.0, 1790347303.0)),
    "seconds, as in OpenMetrics": ("m 7 1790347303.5\n", Sample("m", {}, 7.0, 1790347303.5)),
    "an exemplar": ('m{a="1"} 8 # {trace_id="x}y"} 0.5 1.0\n', Sample("m", {"a": "1"}, 8.0)),
    "exponent": ("m 1.5e+06\n", Sample("m", {}, 1.5e6)),
    "infinity": ("m +Inf\n", Sample("m", {}, math.inf)),
    "tabs and carriage return": ("m\t9\r\n", Sample("m", {}, 9.0)),
    "a name with colons": ('vllm:x{e="0"} 1\n', Sample("vllm:x", {"e": "0"}, 1.0)),
    "no newline at the end of a file": ("m 10", Sample("m", {}, 10.0)),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read(case: str) -> None:
    text, sample = READ[case]
    found = parse(text, every)
    assert found.samples == (sample,)
    assert found.problems == ()


TOLD = {
    "labels without an end": ('m{a="1" 2\n', "labels without an end"),
    "a label that is none": ("m{a=1} 2\n", "labels cannot be read"),
    "no value": ('m{a="1"}\n', "expected a value"),
    "words for a value": ('m{a="1"} many\n', "is not a number"),
    "Python's numbers are not Go's": ("m 1_000\n", "is not a number"),
    "two lines run together": ('m{a="1"} 10888m{a="2"} 5\n', "cannot be read"),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_bad_line_is_told_and_the_rest_is_read(case: str) -> None:
    text, words = TOLD[case]
    found = parse("good 1\n" + text + "better 2\n", every)
    assert [sample.name for sample in found.samples] == ["good", "better"]
    assert len(found.problems) == 1
    assert found.problems[0].startswith("line 2: ")
    assert words in found.problems[0]


def test_comments_prose_and_unwanted_metrics_are_passed_over() -> None:
    text = "Empty mig disabled\n\n------\n# HELP m x\n# TYPE m gauge\nother{a=broken} x\nm 1\n"
    found = parse(text, lambda name: name == "m")
    assert [s.name for s in found.samples] == ["m"]
    assert found.problems == ()


def test_over_a_network_a_last_line_without_newline_is_left_out() -> None:
    found = parse("m 51\nm 5", every, whole=True)
    assert [s.value for s in found.samples] == [51]
    assert "ends in the middle of a line" in found.problems[0]


def test_problems_are_bounded() -> None:
    found = parse("m{ 1\n" * 1000, every)
    assert len(found.problems) == MOST_PROBLEMS + 1
    assert found.problems[-1] == f"and {1000 - MOST_PROBLEMS} more lines that cannot be read"


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    parse(text, every)
    parse(text, every, whole=True)


@given(st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=6))
def test_what_prometheus_client_writes_is_read_as_its_own_parser_reads_it(series: dict[str, float]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("m", "help", ["a"], registry=registry)
    for label, value in series.items():
        gauge.labels(label).set(value)
    text = generate_latest(registry).decode()
    theirs = [(s.name, dict(s.labels), s.value) for family in text_string_to_metric_families(text) for s in family.samples]
    assert [(s.name, dict(s.labels), s.value) for s in parse(text, every).samples] == theirs
