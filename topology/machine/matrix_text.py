"""Pasted text -> the tables of `nvidia-smi topo` in it: names, cells and affinity columns, each with its line.

The text may have tabs or spaces, escape codes that underline the header, mail quotes (`>`), comments (`#`), Markdown tables (`|`),
shell prompts and prose around the tables, rows that a terminal wrapped, and a legend. It may have several tables: `topo -m`,
`topo -mp` and `topo -p2p r`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from topology.machine.hardware import PciePath, TopologyError

CLASSES = {path.value: path for path in PciePath} | {"SOC": PciePath.SYS}  # SOC: drivers before 384
PEER_STATES = ("OK", "CNS", "GNS", "TNS", "NS", "DR", "U")
"""Cells of `topo -p2p`: works; chipset, GPU or topology not supported; not supported; disabled by a driver setting; unknown."""

GPU = re.compile(r"GPU(\d{1,4})$")
_DEVICE = re.compile(r"(?=.*\d)[A-Za-z][A-Za-z0-9_.:-]*$")
_NVLINKS = re.compile(r"NV\d+$")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\ufeff\r\u200b]")
_PREFIX = re.compile(r"^(\s*(>|#+|//|\*)(?=\s|>|GPU|$))+")
_TRAILERS = re.compile(r"(CPU\s+Affinity|NUMA\s+Affinity|GPU\s+NUMA\s+ID|NUMA(?=\s*$))")
_REMARK = re.compile(r"\s*(←|<--?).*$")
_AFFINITY = re.compile(r"N/A$|[\d,-]+$")
_COMMAND = re.compile(r"\btopo\s+(-mp?|--matrix|-p2p\s+\w+)")
MOST_LINES = 5_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    line: int
    cells: tuple[str, ...]
    rest: tuple[str, ...]
    """Words after the last device column: affinities."""
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table. Lines are counted from 1."""

    header_line: int
    names: tuple[str, ...]
    trailers: tuple[str, ...]
    """Affinity columns, in order."""
    rows: dict[str, Row]
    asked: str | None
    """The option of the command above the table, such as `-mp` or `-p2p r`; None where no command is above it."""

    @property
    def peers(self) -> bool:
        """Whether it is a table of `topo -p2p`."""
        return any(cell in PEER_STATES for row in self.rows.values() for cell in row.cells)


def read_tables(text: str) -> list[Table]:
    """Return all tables of a text. Raises TopologyError with the line of a malformed table."""
    lines = [_plain(line) for line in text.splitlines()]
    if len(lines) > MOST_LINES:
        raise TopologyError(f"the text has {len(lines)} lines, more than {MOST_LINES}; keep the matrix and its legend")
    tables, asked, number = [], None, 0
    while number < len(lines):
        command = _COMMAND.search(lines[number])
        asked = " ".join(command[1].split()) if command else asked
        header = _header(lines, number)
        if header is None:
            number += 1
            continue
        names, trailers, after = header
        rows, after = _rows(lines, after, names, len(trailers))
        if rows:
            tables.append(Table(number + 1, names, trailers, rows, asked))
            asked = None
        number = after
    return tables


def _plain(line: str) -> str:
    """A line without escapes, quotes, comment signs and remarks after an arrow; the cells of a Markdown table separated by tabs."""
    bare = _REMARK.sub("", _PREFIX.sub("", _ESCAPES.sub("", line)))
    return bare.strip().strip("|").replace("|", "\t") if bare.strip().startswith("|") else bare


def _header(lines: list[str], number: int) -> tuple[tuple[str, ...], tuple[str, ...], int] | None:
    """Names and affinity columns of the header at a line, and the number of the line after it; None where no header is there."""
    command = _COMMAND.search(lines[number])  # some copies have no line end after it
    body, *rest = _TRAILERS.split(lines[number][command.end() if command else 0 :])
    names = body.split()
    if not names or not GPU.match(names[0]) or not all(map(_is_device, names)):
        return None
    after = number + 1
    while after < len(lines) and (more := _continued_header(lines[after])):
        body, *further = _TRAILERS.split(more)
        names, rest, after = names + body.split(), rest + further, after + 1
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise TopologyError(f"line {number + 1}: column {repeated} appears twice")
    return tuple(names), tuple(map(_trailer, filter(_TRAILERS.match, rest))), after


def _trailer(words: str) -> str:
    """The usual name of an affinity column. Some copies have several spaces between its words, or cut it short."""
    name = " ".join(words.split())
    return "NUMA Affinity" if name == "NUMA" else name


def _continued_header(line: str) -> str | None:
    """The line, if it continues a header that a terminal wrapped: it has only adapters or affinity columns. Else None."""
    body, *rest = _TRAILERS.split(line)
    words = body.split()
    continues = (words or rest) and all(map(_is_device, words)) and not any(word.strip() for word in rest[1::2])
    return line if continues else None


def _is_device(name: str) -> bool:
    return name not in CLASSES and not _NVLINKS.match(name) and _DEVICE.match(name) is not None


def _rows(lines: list[str], start: int, names: tuple[str, ...], trailers: int) -> tuple[dict[str, Row], int]:
    """The rows below a header by name, and the number of the line after the last row. Rows end at the next header or command."""
    rows: dict[str, Row] = {}
    number = start
    while number < len(lines) and not _COMMAND.search(lines[number]) and _header(lines, number) is None:
        words = lines[number].split()
        if not words or words[0] not in names or (len(words) > 1 and not _is_cell(words[1])):
            if words and GPU.match(words[0]) and len(words) > 1 and _is_cell(words[1]):
                raise TopologyError(f"line {number + 1}: row {words[0]} has no column in the header")
            number += 1
            continue
        line, text, number = number, lines[number], number + 1
        while len(words) <= len(names) + trailers and number < len(lines) and _continues_row(lines[number], names):
            words, text, number = words + lines[number].split(), f"{text}\t{lines[number].strip()}", number + 1
        name, cells = words[0], words[1 : len(names) + 1]
        if name in rows:
            raise TopologyError(f"line {line + 1}: row {name} appears twice (first on line {rows[name].line})")
        if len(cells) < len(names):
            missing = names[len(cells)]
            raise TopologyError(f"line {line + 1}: row {name} ends before column {missing}: {len(cells)} of {len(names)} cells")
        rows[name] = Row(line + 1, tuple(cells), tuple(words[len(names) + 1 :]), text)
    return rows, number


def _continues_row(line: str, names: tuple[str, ...]) -> bool:
    """Whether a line continues a row that a terminal wrapped: it has cells and affinities, and no name before them."""
    words = line.split()
    return bool(words) and words[0] not in names and all(_is_cell(word) or _AFFINITY.match(word) for word in words)


def _is_cell(word: str) -> bool:
    return word == "X" or word in CLASSES or word in PEER_STATES or re.fullmatch(r"[A-Z]{2,4}\d*", word) is not None
