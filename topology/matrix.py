"""`nvidia-smi topo -m` text -> Machine. Never a guess: malformed text is an error with line and column.

The text is kinder to eyes than to parsers: tabs or spaces, escape codes that underline the header,
comments or a shell prompt above it, affinity columns in several editions, NIC rows cut off, a legend or none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from topology.constants import MAX_DIRECT_NVLINKS
from topology.hardware import Gpu, Machine, Nic, PciePath, TopologyError
from topology.products import facts

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\ufeff\r]")
_GPU = re.compile(r"GPU(\d+)$")
_NVLINKS = re.compile(r"NV(\d+)$")
_CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*$")
_NIC_LEGEND = re.compile(r"\s*(NIC\d+)\s*:\s*(\S+)\s*$")
_TRAILERS = re.compile(r"(CPU Affinity|NUMA Affinity|GPU NUMA ID)")
_CLASSES = {path.value: path for path in PciePath} | {"SOC": PciePath.SYS}  # SOC: drivers before 384
_MOST_LINKS = max(MAX_DIRECT_NVLINKS.values())


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: tuple[str, ...]
    trailers: dict[str, str]


def parse_matrix(text: str, product: str | None = None, memory_bytes: int | None = None) -> Machine:
    """Read one matrix. Raises TopologyError naming line and column.

    Whether the NVLinks of a pair are direct or pass an NVSwitch is not printed. They must pass a
    switch when a GPU would otherwise have more links than any GPU has (18), or than its product has;
    short of that they count as direct, which is worth the same to a pair.
    """
    lines = _ESCAPES.sub("", text).expandtabs(8).splitlines()
    tabbed = _ESCAPES.sub("", text).splitlines()
    header_at, names, trailers = _header(lines)
    rows = _rows(tabbed, header_at, names, trailers)
    gpu_names = [name for name in names if _GPU.match(name)]
    others = [name for name in names if not _GPU.match(name)]
    for name in gpu_names:
        if name not in rows:
            column = names.index(name) + 1
            raise TopologyError(f"line {header_at + 1}, column {column} names {name}, but no row {name} follows")
    order = gpu_names + others
    cells = _cells(order, names, rows)
    counts = _nvlink_counts(len(gpu_names), cells)
    known = facts(product)
    most = known.nvlinks if known and known.nvlinks else _MOST_LINKS
    switched = [sum(row) > most for row in counts]
    devices = _nic_legend(lines)
    gpus = tuple(
        Gpu(
            index=int(name[3:]),
            product=product,
            memory_bytes=memory_bytes,
            numa_node=_numa(rows[name]),
            cpu_affinity=rows[name].trailers.get("CPU Affinity") or None,
            numa_affinity=_numa_list(rows[name]),
            nvlink_generation=known.nvlink_generation if known else None,
            switch_links=max(counts[i], default=0) if switched[i] else _direct(counts[i]),
        )
        for i, name in enumerate(gpu_names)
    )
    nvlinks = tuple(tuple(0 if switched[i] and switched[j] else count for j, count in enumerate(row)) for i, row in enumerate(counts))
    paths = tuple(tuple(_CLASSES.get(cell) if cell else None for cell in row) for row in cells)
    nics = tuple(Nic(name, devices.get(name)) for name in others)
    return Machine(gpus=gpus, nics=nics, pcie_paths=paths, nvlinks=nvlinks)


def _direct(counts: list[int]) -> int | None:
    """Zero switch links where the picture rules a switch out, else unknown.

    A GPU joined to every visible peer by the same number of links could still be one of a switched
    board's GPUs seen from a container; anything uneven cannot.
    """
    joined = {count for count in counts if count}
    return None if len(joined) == 1 and sum(1 for c in counts if c) == len(counts) - 1 else 0


def _header(lines: list[str]) -> tuple[int, list[str], list[str]]:
    for number, line in enumerate(lines):
        body, *rest = _TRAILERS.split(line)
        names = body.split()
        if names and _GPU.match(names[0]) and all(_GPU.match(n) or _is_device(n) for n in names):
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise TopologyError(f"line {number + 1}: column {twice} appears twice")
            return number, names, [word for word in rest if _TRAILERS.match(word)]
    raise TopologyError("no header line with GPU0 ... found: is this `nvidia-smi topo -m` output?")


def _is_device(name: str) -> bool:
    return name not in _CLASSES and name != "X" and not _NVLINKS.match(name)


def _rows(lines: list[str], header_at: int, names: list[str], trailers: list[str]) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for number, line in enumerate(lines[header_at + 1 :], start=header_at + 2):
        words = line.split()
        if not words or words[0] not in names:
            if words and _GPU.match(words[0]):
                raise TopologyError(f"line {number}: row {words[0]} has no column in the header")
            continue
        name, cells = words[0], words[1 : len(names) + 1]
        if name in rows:
            raise TopologyError(f"line {number}: row {name} appears twice (first on line {rows[name].line})")
        if len(cells) < len(names):
            missing = names[len(cells)]
            raise TopologyError(f"line {number}: row {name} ends before column {missing}: {len(cells)} of {len(names)} cells")
        for column, cell in zip(names, cells, strict=True):
            _check_cell(number, name, column, cell)
        rest = words[len(names) + 1 :]
        rows[name] = _Row(number, tuple(cells), _trailing(number, name, trailers, rest, line))
    return rows


def _check_cell(number: int, row: str, column: str, cell: str) -> None:
    where = f"line {number}, column {column}"
    if (cell == "X") != (row == column):
        raise TopologyError(f"{where}: row {row} has {cell!r} where {'X' if row == column else 'a link class'} belongs")
    links = _NVLINKS.match(cell)
    if links:
        if not (_GPU.match(row) and _GPU.match(column)):
            raise TopologyError(f"{where}: NVLink {cell!r} between {row} and {column}, which are not both GPUs")
        if not 1 <= int(links[1]) <= _MOST_LINKS:
            raise TopologyError(f"{where}: {cell!r} is not 1 to {_MOST_LINKS} NVLinks")
    elif cell not in _CLASSES and cell != "X":
        raise TopologyError(f"{where}: {cell!r} is none of X, NV#, {', '.join(_CLASSES)}")


def _trailing(number: int, row: str, trailers: list[str], words: list[str], line: str) -> dict[str, str]:
    """Affinity cells by column name. They may be blank, and only tabs then tell which one is."""
    if not _GPU.match(row):
        return {}
    if len(words) > len(trailers):
        raise TopologyError(f"line {number}: row {row} has {len(words) - len(trailers)} cells too many: {words}")
    values = dict(zip(trailers, words, strict=False))
    if len(words) < len(trailers) and words and not _blank_last(line, words):
        values = dict(zip(trailers[-len(words) :], words, strict=True))
    for column, value in values.items():
        if value != "N/A" and not _CPU_LIST.match(value):
            raise TopologyError(f"line {number}, column {column}: {value!r} is neither a list of numbers nor N/A")
    return {column: "" if value == "N/A" else value for column, value in values.items()}


def _blank_last(line: str, words: list[str]) -> bool:
    """Whether the missing trailers are the last ones: true unless a tab pair opens a hole before the first."""
    head, _, _ = line.rstrip().rpartition(words[0]) if len(words) == 1 else line.partition(words[0])
    return not head.endswith("\t\t")


def _numa(row: _Row) -> int | None:
    """A single NUMA node; a list such as `0-1` leaves it open which."""
    value = row.trailers.get("NUMA Affinity")
    return int(value) if value is not None and value.isdigit() else None


def _numa_list(row: _Row) -> str | None:
    """Several NUMA nodes, or "" for N/A: see `Gpu.numa_affinity`."""
    value = row.trailers.get("NUMA Affinity")
    return None if value is None or value.isdigit() else value


def _cells(order: list[str], names: list[str], rows: dict[str, _Row]) -> list[list[str]]:
    """The matrix in `order`, made whole: a missing NIC row is read off the GPUs' columns."""
    column = {name: place for place, name in enumerate(names)}
    whole = [["" for _ in order] for _ in order]
    for i, row in enumerate(order):
        for j, other in enumerate(order):
            there = rows[row].cells[column[other]] if row in rows else ""
            back = rows[other].cells[column[row]] if other in rows else ""
            if there and back and _CLASSES.get(there, there) != _CLASSES.get(back, back):
                raise TopologyError(
                    f"line {rows[row].line}, column {other}: {there}, but line {rows[other].line},"
                    f" column {row} says {back} of the same link"
                )
            whole[i][j] = there or back
    return whole


def _nvlink_counts(gpus: int, cells: list[list[str]]) -> list[list[int]]:
    found = [[_NVLINKS.match(cell) for cell in row[:gpus]] for row in cells[:gpus]]
    return [[int(match[1]) if match else 0 for match in row] for row in found]


def _nic_legend(lines: list[str]) -> dict[str, str]:
    matches = (_NIC_LEGEND.match(line) for line in lines)
    return {match[1]: match[2] for match in matches if match}
