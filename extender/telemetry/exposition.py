"""A parser of the Prometheus text format that reads the wanted metrics only, which are few of the lines of a scrape.

Library parsers read some 20,000 lines a second; five thousand nodes send 70,000 (`make bench` has the current ratio). Here an
unwanted line costs one lookup, and a label block, which all metrics of a device share, is parsed once per text.

Format: Prometheus, "Exposition formats", text versions 0.0.4 and 1.0.0, whose UTF-8 names stand quoted inside the braces
(`{"a.name", label="x"} 1`); OpenMetrics' exemplars and timestamps in seconds are read too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_PROBLEMS = 20
"""Most unreadable lines that are reported one by one."""

MOST_FAMILIES = 6
"""Most unwanted metric families that are named; the others are counted."""

Labels = Mapping[str, str]

_LABEL = re.compile(r'\s*(?:([a-zA-Z_][a-zA-Z0-9_.:]*)|"((?:[^"\\]|\\.)*)")\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_QUOTED_NAME = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*(?:,|(?=\}))')
_SERIES_OF_A_FAMILY = re.compile(r"_(bucket|sum|count|total|created|info)$")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*$")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", '"': '"', "\\": "\\"}
_NO_LABELS: Labels = {}
_SPECIAL = frozenset({"nan", "+inf", "-inf", "inf"})
_MILLISECONDS_FROM = 1e11
"""A timestamp above is in milliseconds (the text format), below in seconds (OpenMetrics): 1e11 s is the year 5138."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. `value` may be NaN or infinite."""

    name: str
    labels: Labels
    value: float
    timestamp_seconds: float | None = None
    """Unix time, where the exporter gives one."""


@dataclass(frozen=True, slots=True)
class Exposition:
    """The wanted metrics of a text."""

    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    """Unreadable lines with their numbers, at most `MOST_PROBLEMS`, then the number of others."""
    other_families: tuple[str, ...] = ()
    """The first unwanted metric families, in the text's order, at most `MOST_FAMILIES`."""
    other_family_count: int = 0
    """The number of unwanted families."""


def parse(text: str, wanted: Callable[[str], bool], whole: bool = False) -> Exposition:
    """Return the samples of the wanted metrics, in order. Never raises: an unreadable line becomes a problem.

    `whole`: the text came over a network and must end in a newline, as the format requires; a last line without one may be
    truncated within a number and is left out.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    problems: list[str] = []
    if whole and lines[-1].strip():
        problems.append(f"line {len(lines)}: the text ends in the middle of a line; left out")
        lines.pop()
    samples: list[Sample] = []
    keep: dict[str, bool] = {}
    known: dict[str, Labels | None] = {}
    for number, full_line in enumerate(lines, start=1):
        line = full_line.lstrip() if full_line[:1].isspace() else full_line
        if not line or line[0] == "#":
            continue
        cut = line.find("{")
        if cut == 0 and (quoted := _QUOTED_NAME.match(line)) is not None:
            name, line = _unescaped(quoted[1]), "{" + line[quoted.end() :]
            if keep.setdefault(name, wanted(name)):
                _add(_sample(name, line, 0, known), number, samples, problems)
            continue
        name = line[:cut] if cut >= 0 else line.split(None, 1)[0]
        want = keep.get(name)
        if want is None:
            want = keep[name] = bool(_NAME.match(name.strip())) and wanted(name.strip())
            if not want and "=" in line and not _NAME.match(name.strip()):
                problems.append(f"line {number}: {_shown(name)} is no metric name")
        if not want:
            continue
        _add(_sample(name.strip(), line, cut, known), number, samples, problems)
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [f"and {len(problems) - MOST_PROBLEMS} more lines that cannot be read"]
    others = dict.fromkeys(_SERIES_OF_A_FAMILY.sub("", name.strip()) for name, want in keep.items() if not want and _is_name(name))
    return Exposition(tuple(samples), tuple(problems), tuple(name[:80] for name in list(others)[:MOST_FAMILIES]), len(others))


def seen(exposition: Exposition) -> str:
    """Return a description of a text without wanted metrics, for people."""
    if not exposition.other_family_count:
        return "it has no line of the form `name{labels} value`, so it is no Prometheus exposition"
    more = exposition.other_family_count - len(exposition.other_families)
    named = ", ".join(exposition.other_families) + (f" and {more} more" if more else "")
    return f"it has the metric families {named}"


def _add(read: Sample | str, number: int, samples: list[Sample], problems: list[str]) -> None:
    if isinstance(read, Sample):
        samples.append(read)
    else:
        problems.append(f"line {number}: {read}")


def _is_name(name: str) -> bool:
    """Whether a name can be that of a metric. It must contain `_`, `:` or `.`, which excludes words of prose such as `the`."""
    return any(mark in name for mark in "_:.") and not any(mark in name for mark in "<>\"'()[]/")


def _sample(name: str, line: str, cut: int, known: dict[str, Labels | None]) -> Sample | str:
    """The sample of one line, or why it cannot be read."""
    labels: Labels | None = _NO_LABELS
    if cut < 0:
        rest = line[len(name) :]
    else:
        end = _block_end(line, cut)
        if end < 0:
            return f"{name}: labels without an end"
        block = line[cut + 1 : end]
        if block not in known:
            known[block] = parse_labels(block)
        labels, rest = known[block], line[end + 1 :]
    if labels is None:
        return f"{name}: labels cannot be read"
    parts = rest.partition(" # ")[0].split()
    if not 1 <= len(parts) <= 2:
        return f"{name}: expected a value, found {_shown(rest)}"
    try:
        value = _number(parts[0])
        stamp = _number(parts[1]) if len(parts) > 1 else None
    except ValueError:
        return f"{name}: {_shown(rest)} is not a number"
    if stamp is not None and not math.isfinite(stamp):
        stamp = None
    return Sample(name, labels, value, stamp / 1000 if stamp is not None and abs(stamp) >= _MILLISECONDS_FROM else stamp)


def _block_end(line: str, start: int) -> int:
    """Index of the end of the label block: the last brace, unless an exemplar follows; -1 where there is none."""
    end = line.rfind("}")
    if " # " not in line:
        return end
    quoted = False
    place = start + 1
    while place < len(line):
        if line[place] == "\\" and quoted:
            place += 1
        elif line[place] == '"':
            quoted = not quoted
        elif line[place] == "}" and not quoted:
            return place
        place += 1
    return -1


def parse_labels(block: str) -> Labels | None:
    """Return the labels of the text inside braces; None where it is no list of labels."""
    labels: dict[str, str] = {}
    place = 0
    while place < len(block):
        match = _LABEL.match(block, place)
        if match is None:
            return None if block[place:].strip() else labels
        labels[match[1] or _unescaped(match[2] or "")] = _unescaped(match[3])
        place = match.end()
    return labels


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text) if "\\" in text else text


def _number(text: str) -> float:
    """A number as Go's ParseFloat reads it; Python's float would also accept `1_000`. Raises ValueError."""
    if "_" in text or (text[-1:].isalpha() and text.lower() not in _SPECIAL):
        raise ValueError(text)
    return float(text)


def _shown(text: str) -> str:
    return repr(text.strip()[:60])
