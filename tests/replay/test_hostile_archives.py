"""Archives that are damaged, hostile or of another version: one clear error each, within bounds."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extender.decision.replay import journal_lines, journal_reader
from extender.decision.replay.snapshot_archive import MEMBER, zipped
from tests.cli.commands import Commands
from tests.replay.journals import journal_of
from tests.replay.random_cluster import RandomCluster


@pytest.fixture(scope="module")
def journal() -> bytes:
    cluster = RandomCluster(3, nodes=3)
    cluster.run(3)
    return journal_of(cluster.service)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


def archive(*members: tuple[str, bytes]) -> bytes:
    """A zip file with these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members:
            written.writestr(name, content)
    return file.getvalue()


def altered(journal: bytes, of: str, /, **fields: Any) -> bytes:
    """The journal with other fields in its first line of a kind; a field None is removed."""
    lines = journal.splitlines()
    place = next(place for place, line in enumerate(lines) if json.loads(line)["line"] == of)
    line = {**json.loads(lines[place]), **fields}
    lines[place] = json.dumps({key: value for key, value in line.items() if value is not None}).encode()
    return b"\n".join(lines) + b"\n"


def of(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """An archive of a changed journal."""
    return lambda journal: archive((MEMBER, change(journal)))


def with_declared_size(journal: bytes, size: int) -> bytes:
    """An archive whose directory declares another size of the member."""
    content = bytearray(archive((MEMBER, journal)))
    directory = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, directory + 24, size)
    return bytes(content)


def encrypted(journal: bytes) -> bytes:
    content = bytearray(archive((MEMBER, journal)))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty file": (lambda _: b"", "no journal of Fabricwise"),
    "not an archive": (lambda _: b"hello\n", "no line of a journal"),
    "binary": (lambda _: bytes(range(256)), "line 1"),
    "truncated archive": (lambda journal: archive((MEMBER, journal))[:-40], "damaged"),
    "archive without its second half": (lambda journal: archive((MEMBER, journal))[: len(journal) // 20], "damaged"),
    "damaged content": (lambda journal: (a := archive((MEMBER, journal)))[:300] + bytes(40) + a[340:], "s.zip"),
    "no member": (lambda _: archive(), "must contain journal.jsonl alone"),
    "path traversal": (lambda journal: archive(("../../etc/cron.d/x", journal)), "must contain journal.jsonl alone"),
    "absolute path": (lambda journal: archive(("/journal.jsonl", journal)), "must contain journal.jsonl alone"),
    "second member": (lambda journal: archive((MEMBER, journal), ("x", b"")), "must contain journal.jsonl alone"),
    "a member twice": (lambda journal: archive((MEMBER, journal), (MEMBER, journal)), "must contain journal.jsonl alone"),
    "encrypted": (encrypted, "encrypted"),
    "declares too much": (lambda journal: with_declared_size(journal, (1 << 32) - 2), "are the most that are read"),
    "declares too little": (lambda journal: with_declared_size(journal, 1000), "damaged"),
    "no head": (of(lambda journal: journal.split(b"\n", 1)[1]), "is no head"),
    "another format": (of(lambda journal: altered(journal, "head", format=2, fabricwise="9.9")), "has format 2, written by version 9.9"),
    "second head": (of(lambda journal: journal.split(b"\n", 1)[0] + b"\n" + journal), "is a second head"),
    "unknown line": (of(lambda journal: journal + b'{"line":"x"}\n'), "is no line of a journal"),
    "line without end": (of(lambda journal: journal[:-1]), "is incomplete"),
    "lines after the end": (of(lambda journal: journal + journal.splitlines()[-2] + b"\n"), "follows the end"),
    "deep JSON": (of(lambda journal: journal.split(b"\n", 1)[0] + b"\n" + b"[" * 1_000_000 + b"]" * 1_000_000 + b"\n"), "line 2"),
    "deep value": (
        of(
            lambda journal: (
                altered(journal, "moment") + b'{"line":"object","kind":"node","key":"a","value":' + b"[" * 9999 + b"]" * 9999 + b"}\n"
            )
        ),
        "line",
    ),
    "too long a line": (of(lambda journal: journal + b" " * (9 << 20) + b"\n"), "is longer than 8 MiB"),
    "object of an unknown kind": (of(lambda journal: altered(journal, "object", kind="secrets")), "unknown kind, 'secrets'"),
    "object of a wrong type": (of(lambda journal: altered(journal, "object", value=7)), "cannot be used"),
    "object without moment": (
        of(lambda journal: journal.split(b"\n", 1)[0] + b'\n{"line":"gone","kind":"node","key":"a"}\n'),
        "belongs to no moment",
    ),
    "moment of a wrong type": (of(lambda journal: altered(journal, "moment", revision="x")), "is no line of a journal"),
    "unknown rows": (of(lambda journal: altered(journal, "decision", rows=[[0, 99]])), "names the nodes 0 to 99"),
    "rows backwards": (of(lambda journal: altered(journal, "decision", rows=[[2, 0]])), "names the nodes 2 to 0"),
    "negative row": (of(lambda journal: altered(journal, "decision", rows=[[-3, 0]])), "names the nodes -3 to 0"),
    "other number of verdicts": (
        of(lambda journal: altered(journal, "decision", answer={"verdicts": [[None, None]], "nodes": [[0, 1000000000000]]})),
        "another number of verdicts",
    ),
    "unknown verdict": (of(lambda journal: altered(journal, "decision", rows=[[0, 0]], answer={"nodes": [[5, 1]]})), "does not have"),
    "negative run": (
        of(lambda journal: altered(journal, "decision", rows=[[0, 0]], answer={"verdicts": [[None, 1.0]], "nodes": [[0, -1], [0, 2]]})),
        "`int` >= 1",
    ),
    "settings of another version": (of(lambda journal: altered(journal, "head", settings={"scoring": {"colour": 1}})), "with --config"),
    "contradicting settings": (
        of(lambda journal: altered(journal, "head", settings={"scoring": {"weights": {"link": -1}}})),
        "with --config",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive_is_refused_with_one_line_that_names_it(case: str, journal: bytes, commands: Commands, tmp_path: Path) -> None:
    make, expected = HOSTILE[case]
    path = tmp_path / "s.zip"
    path.write_bytes(make(journal))
    ended = commands("replay", str(path))
    assert ended.status == 3, (ended.out, ended.err)
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 800
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zip"]


def test_zip_bomb_is_read_no_further_than_its_bound(
    journal: bytes, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "MOST_JOURNAL_BYTES", 4 << 20)
    head = journal.split(b"\n", 1)[0] + b"\n"
    filler = b'{"line":"node","name":"' + b"a" * (1 << 20) + b'"}\n'
    path = tmp_path / "bomb.zip"
    path.write_bytes(b"".join(zipped([head, *[filler] * 40])))
    assert path.stat().st_size < 200_000
    ended = commands("replay", str(path))
    assert ended.status == 3
    assert "line 5 is beyond 4 MiB" in ended.err


def test_journal_with_too_many_decisions_is_refused(
    journal: bytes, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "MOST_DECISIONS", 100)
    lines = journal.splitlines(keepends=True)
    decision = next(place for place, line in enumerate(lines) if json.loads(line)["line"] == "decision")
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"".join(lines[: decision + 1]) + lines[decision] * 1_000)
    ended = commands("replay", str(path))
    assert ended.status == 3
    assert "is decision 101; 100 are the most" in ended.err


def test_last_line_of_a_file_that_is_being_written_is_left_out(journal: bytes, commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    lines = journal.splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if json.loads(line)["line"] == "decision")
    decisions = sum(json.loads(line)["line"] == "decision" for line in lines)
    for cut in (1, len(lines[last]) // 2, len(lines[last]) - 1):
        path.write_bytes(b"".join(lines[:last]) + lines[last][:cut])
        answer = json.loads(commands("replay", str(path), "-o", "json").out)
        assert (answer["decisions"], answer["identical"], answer["complete"]) == (decisions - 1, decisions - 1, False)


def test_state_that_contradicts_itself_hides_no_other_decision(journal: bytes, commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "s.zip"
    pod = {"metadata": {"name": "x", "uid": "x"}, "spec": {"resourceClaims": [{"name": "a"}, {"name": "a"}], "containers": [{"name": "c"}]}}
    path.write_bytes(archive((MEMBER, altered(journal, "decision", pod=pod, verb="unknown"))))
    answer = json.loads(commands("replay", str(path), "-o", "json").out)
    assert answer["decisions"] == 4
    assert answer["identical"] >= 3


def test_bounds_are_far_above_what_a_large_cluster_needs() -> None:
    assert journal_lines.MOST_DECISIONS <= 20_000
    assert journal_lines.MOST_JOURNAL_BYTES >= 10 * (25 << 20)
