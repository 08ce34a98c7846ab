"""The text format: what is read, what is told, and that nothing makes it raise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from extender.telemetry.exposition import MOST_FAMILIES, MOST_PROBLEMS, Exposition, Sample, parse, seen


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
    "a quoted name of legacy characters": ('{"m",a="1"} 11\n', Sample("m", {"a": "1"}, 11.0)),
    "a quoted name alone": ('{"vllm:x"} 12\n', Sample("vllm:x", {}, 12.0)),
    "a UTF-8 name and a UTF-8 label": ('{ "größe.é" , "k8s.pod"="p" , b="x" } 13\n', Sample("größe.é", {"k8s.pod": "p", "b": "x"}, 13.0)),
    "a quoted name with an escape and a brace": ('{"a\\"}b",c="}"} 14\n', Sample('a"}b', {"c": "}"}, 14.0)),
    "a quoted name with an exemplar": ('{"m",a="1"} 8 1790347303 # {t="x"} 0.5\n', Sample("m", {"a": "1"}, 8.0, 1790347303.0)),
    "spaces before the name": ("   m 15\n", Sample("m", {}, 15.0)),
    "spaces before the name and labels": ('\t m{a="1"} 16\n', Sample("m", {"a": "1"}, 16.0)),
    "a byte order mark": ("\ufeffm 17\n", Sample("m", {}, 17.0)),
    "a spaced comment with braces": ('  # HELP m {a="b"} x\nm 18\n# EOF\n', Sample("m", {}, 18.0)),
    "an exponent of three digits": ("m 1.15891634176e+011\n", Sample("m", {}, 1.15891634176e11)),
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
    "a quoted name without an end": ('{"m,a="1"} 2\n', "is no metric name"),
    "two quoted names": ('{"m","n"} 2\n', "labels cannot be read"),
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


def test_families_that_are_not_wanted_are_named_up_to_a_bound() -> None:
    text = 'a_seconds_bucket{le="1"} 1\na_seconds_sum 2\na_seconds_count 3\n{"b.c",x="1"} 1\nm 1\nplain prose\n'
    text += "".join(f"other_{number} 1\n" for number in range(1000))
    exposition = parse(text, lambda name: name == "m")
    assert exposition.other_families == ("a_seconds", "b.c", *(f"other_{number}" for number in range(MOST_FAMILIES - 2)))
    assert exposition.other_family_count == 1002
    assert seen(exposition).endswith(f"other_3 and {1002 - MOST_FAMILIES} more")


@pytest.mark.parametrize("text", ["", "<html><head><title>a_b</title></head></html>", '{"error": "not_found"}', "404 page not found\n"])
def test_what_is_no_exposition_is_called_so(text: str) -> None:
    assert "no Prometheus exposition" in seen(parse(text, lambda _name: False))


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
    for metric, label_name in (("m", "a"), ("größe.é", "k8s.pod")):
        _compare_with_prometheus_client(metric, label_name, series)


def _compare_with_prometheus_client(metric: str, label_name: str, series: dict[str, float]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge(metric, "help", [label_name], registry=registry)
    for label, value in series.items():
        gauge.labels(label).set(value)
    text = generate_latest(registry, escaping="allow-utf-8").decode()
    theirs = [(s.name, dict(s.labels), s.value) for family in text_string_to_metric_families(text) for s in family.samples]
    assert [(s.name, dict(s.labels), s.value) for s in parse(text, every).samples] == theirs


_UTF8_NAMES = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(_UTF8_NAMES, st.dictionaries(_UTF8_NAMES, st.text(max_size=8), max_size=3), st.floats(allow_nan=False))
def test_a_quoted_name_with_quoted_labels_is_read_back(name: str, labels: dict[str, str], value: float) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    block = ",".join([quoted(name), *(f"{quoted(label)}={quoted(words)}" for label, words in labels.items())])
    assert parse(f"{{{block}}} {value!r}\n", every) == Exposition((Sample(name, labels, value),), ())
