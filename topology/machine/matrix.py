"""`nvidia-smi topo` text -> Machine. Malformed or impossible text is an error with line and column, never a guess.

`topo -m` gives classes and NVLinks, `topo -p2p r` and `w` after it whether peer-to-peer works, `topo -mp` the PCIe classes that
NVLinks hide. `matrix_text` finds the tables in a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations, permutations

from topology.machine.constants import MAX_DIRECT_NVLINKS
from topology.machine.hardware import Gpu, Machine, Nic, PciePath, TopologyError
from topology.machine.matrix_text import CLASSES, GPU, PEER_STATES, Row, Table, read_tables
from topology.machine.products import ProductFacts, facts, never_switched

_NVLINKS = re.compile(r"NV(\d{1,4})$")
_CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*$")
_NIC_LEGEND = re.compile(r"\W*(NIC\d+)\s*:\s*(\S+)\s*$")
_MOST_LINKS = max(MAX_DIRECT_NVLINKS.values())
_PEER_ACCESS = re.compile(r"-p2p [rw]+$")


@dataclass(frozen=True, slots=True)
class Capture:
    """The machine of a text."""

    machine: Machine
    notes: tuple[str, ...] = ()
    """Sentences about the text itself."""


def parse_matrix(text: str, product: str | None = None, memory_bytes: int | None = None) -> Machine:
    """Return the machine of a text. Raises TopologyError with line and column."""
    return parse_capture(text, product, memory_bytes).machine


def parse_capture(text: str, product: str | None = None, memory_bytes: int | None = None) -> Capture:
    """Parse the tables of one machine. Raises TopologyError with line and column.

    nvidia-smi does not print whether the NVLinks of a pair are direct or pass an NVSwitch. They must pass a
    switch when a GPU would otherwise have more links than any GPU has (18), or than its product has.
    Otherwise they count as direct, which gives a pair the same bandwidth.
    """
    tables = read_tables(text)
    matrices = [table for table in tables if not table.peers]
    if not matrices:
        raise TopologyError("no header line with GPU0 ... found: is this `nvidia-smi topo -m` output?")
    main = next((table for table in matrices if _has_nvlinks(table)), matrices[0])
    order = _devices(main)
    cells = _cells(order, main)
    gpu_names = [name for name in order if GPU.match(name)]
    paths = [[CLASSES.get(cell) for cell in row] for row in cells]
    for other in matrices:
        if other is not main:
            _add_hidden(paths, cells, gpu_names, main, other)
    _check_possible(gpu_names, paths)
    counts = _nvlink_counts(len(gpu_names), cells)
    known = facts(product)
    _check_product(product, known, gpu_names, counts)
    most = known.nvlinks if known and known.nvlinks else _MOST_LINKS
    switched = [sum(row) > most for row in counts]
    affinities = {name: _affinity(main, name) for name in gpu_names}
    devices = _nic_legend(text)
    gpus = tuple(
        Gpu(
            index=int(name[3:]),
            product=product,
            memory_bytes=memory_bytes,
            numa_node=_numa(affinities[name]),
            cpu_affinity=affinities[name].get("CPU Affinity") or None,
            numa_affinity=_numa_list(affinities[name]),
            nvlink_generation=known.nvlink_generation if known else None,
            switch_links=max(counts[i], default=0) if switched[i] else _direct(counts[i]),
        )
        for i, name in enumerate(gpu_names)
    )
    nvlinks = tuple(tuple(0 if switched[i] and switched[j] else count for j, count in enumerate(row)) for i, row in enumerate(counts))
    nics = tuple(Nic(name, devices.get(name)) for name in order[len(gpu_names) :])
    peer_to_peer = _peer_to_peer([table for table in tables if table.peers], gpu_names, counts)
    hidden = main.asked == "-mp" and len(gpu_names) > 1
    notes = ("this is `topo -mp`, which leaves NVLinks out: use `topo -m`",) if hidden else ()
    return Capture(Machine(gpus, nics, tuple(map(tuple, paths)), nvlinks, peer_to_peer=peer_to_peer), notes)


def _direct(counts: list[int]) -> int | None:
    """Zero switch links where the counts exclude a switch, else None.

    A container can show a part of a switched board: there each GPU has the same number of links to every other. Uneven
    counts exclude a switch.
    """
    joined = {count for count in counts if count}
    return None if len(joined) == 1 and sum(1 for c in counts if c) == len(counts) - 1 else 0


def _has_nvlinks(table: Table) -> bool:
    return any(_NVLINKS.match(cell) for row in table.rows.values() for cell in row.cells)


def _devices(table: Table) -> list[str]:
    """The names of a matrix, GPUs then NICs. Raises TopologyError for a malformed cell and a missing row."""
    for row_name, row in table.rows.items():
        for column_name, cell in zip(table.names, row.cells, strict=True):
            _check_cell(row.line, row_name, column_name, cell)
    gpus = [name for name in table.names if GPU.match(name)]
    for name in gpus:
        if name not in table.rows:
            column = table.names.index(name) + 1
            raise TopologyError(f"line {table.header_line}, column {column} names {name}, but no row {name} follows")
    return gpus + [name for name in table.names if not GPU.match(name)]


def _check_cell(number: int, row: str, column: str, cell: str) -> None:
    where = f"line {number}, column {column}"
    if (cell == "X") != (row == column):
        raise TopologyError(f"{where}: row {row} has {cell!r} where {'X' if row == column else 'a link class'} belongs")
    links = _NVLINKS.match(cell)
    if links:
        if not (GPU.match(row) and GPU.match(column)):
            raise TopologyError(f"{where}: NVLink {cell!r} between {row} and {column}, which are not both GPUs")
        if not 1 <= int(links[1]) <= _MOST_LINKS:
            raise TopologyError(f"{where}: {cell!r} is not 1 to {_MOST_LINKS} NVLinks")
    elif cell not in CLASSES and cell != "X":
        raise TopologyError(f"{where}: {cell!r} is none of X, NV#, {', '.join(CLASSES)}")


def _affinity(table: Table, name: str) -> dict[str, str]:
    """Affinity cells by column name, "" for N/A. A cell may be blank; then only tabs show which one."""
    row = table.rows[name]
    trailers, words = table.trailers, row.rest
    if len(words) > len(trailers):
        raise TopologyError(f"line {row.line}: row {name} has {len(words) - len(trailers)} cells too many: {list(words)}")
    values = dict(zip(trailers, words, strict=False))
    if len(words) < len(trailers) and words and not _blank_last(row):
        values = dict(zip(trailers[-len(words) :], words, strict=True))
    for column, value in values.items():
        if value != "N/A" and not _CPU_LIST.match(value):
            raise TopologyError(f"line {row.line}, column {column}: {value!r} is neither a list of numbers nor N/A")
    return {column: "" if value == "N/A" else value for column, value in values.items()}


def _blank_last(row: Row) -> bool:
    """Whether the missing affinity cells are the last ones: true unless two tabs come before the first."""
    line, first = row.text, row.rest[0]
    head, _, _ = line.rstrip().rpartition(first) if len(row.rest) == 1 else line.partition(first)
    return not head.endswith("\t\t")


def _numa(affinity: dict[str, str]) -> int | None:
    """The NUMA node; None for a list such as `0-1`."""
    value = affinity.get("NUMA Affinity", "")
    return int(value) if value.isdigit() else None


def _numa_list(affinity: dict[str, str]) -> str | None:
    """A list of several NUMA nodes, or "" for N/A; see `Gpu.numa_affinity`."""
    value = affinity.get("NUMA Affinity")
    return None if value is None or value.isdigit() else value


def _cells(order: list[str], table: Table) -> list[list[str]]:
    """The complete matrix in `order`. The cells of a missing NIC row come from the GPUs' columns."""
    column, rows = {name: place for place, name in enumerate(table.names)}, table.rows
    complete = [["" for _ in order] for _ in order]
    for i, row in enumerate(order):
        for j, other in enumerate(order):
            there = rows[row].cells[column[other]] if row in rows else ""
            back = rows[other].cells[column[row]] if other in rows else ""
            if there and back and CLASSES.get(there, there) != CLASSES.get(back, back):
                raise TopologyError(
                    f"line {rows[row].line}, column {other}: {there}, but line {rows[other].line},"
                    f" column {row} says {back} of the same link"
                )
            complete[i][j] = there or back
    return complete


def _add_hidden(paths: list[list[PciePath | None]], cells: list[list[str]], gpu_names: list[str], main: Table, other: Table) -> None:
    """Add to `paths` the PCIe classes that NVLinks hide, from a second matrix of the same machine (`topo -mp`).

    Raises TopologyError where the matrices differ otherwise: they are of different machines.
    """
    names = _devices(other)
    other_cells = _cells(names, other)
    place = {name: i for i, name in enumerate(names) if GPU.match(name)}
    if sorted(place) != sorted(gpu_names):
        raise TopologyError(f"line {other.header_line}: a second matrix has other GPUs; give the matrix of one machine")
    for (i, a), (j, b) in combinations(enumerate(gpu_names), 2):
        first, second = cells[i][j], other_cells[place[a]][place[b]]
        if first == second:
            continue
        if not _NVLINKS.match(first) or second not in CLASSES:
            raise TopologyError(
                f"line {other.header_line}: a second matrix says {second} of {a} and {b}, the one on line {main.header_line} says {first};"
                " give the matrix of one machine"
            )
        paths[i][j] = paths[j][i] = CLASSES[second]


def _check_possible(gpu_names: list[str], paths: list[list[PciePath | None]]) -> None:
    """Raise TopologyError for three GPUs that fit in no PCIe tree: the third pair is never farther than the farther of the other two."""
    for a, b, c in permutations(range(len(gpu_names)), 3):
        near, other, far = paths[a][b], paths[b][c], paths[a][c]
        if a > c or near is None or other is None or far is None or far.distance <= max(near.distance, other.distance):
            continue
        first, middle, last = gpu_names[a], gpu_names[b], gpu_names[c]
        raise TopologyError(
            f"{first}, {middle} and {last} fit in no PCIe tree: {first}-{middle} is {near}, {middle}-{last} is {other},"
            f" so {first}-{last} cannot be {far}; copy the matrix again"
        )


def _check_product(product: str | None, known: ProductFacts | None, gpu_names: list[str], counts: list[list[int]]) -> None:
    """Raise TopologyError for more NVLinks than the product has."""
    if known is None:
        return
    for (i, name), (j, other) in combinations(enumerate(gpu_names), 2):
        if counts[i][j] > known.nvlinks:
            has = f"has {known.nvlinks}" if known.nvlinks else "has no NVLink"
            raise TopologyError(f"{name} and {other} are joined by NV{counts[i][j]}, but {product} {has}: check the product")
    for i, name in enumerate(gpu_names):
        if never_switched(product) and sum(counts[i]) > known.nvlinks:
            raise TopologyError(
                f"{name} has {sum(counts[i])} NVLinks, but {product} has {known.nvlinks} and no NVSwitch: check the product"
            )


def _nvlink_counts(gpus: int, cells: list[list[str]]) -> list[list[int]]:
    matches = [[_NVLINKS.match(cell) for cell in row[:gpus]] for row in cells[:gpus]]
    return [[int(match[1]) if match else 0 for match in row] for row in matches]


def _nic_legend(text: str) -> dict[str, str]:
    matches = (_NIC_LEGEND.match(line) for line in text.splitlines())
    return {match[1]: match[2] for match in matches if match}


def _peer_to_peer(tables: list[Table], gpu_names: list[str], counts: list[list[int]]) -> bool | None:
    """Whether reads and writes between GPUs work over PCIe, for the pairs without NVLink, as in the agent. None = unknown.

    Tables of other options (`-p2p n` for NVLink, `a` for atomics, `p`) do not show it.
    """
    states: list[str] = []
    for table in tables:
        missing = next((name for name in gpu_names if name not in table.rows or name not in table.names), None)
        if missing is not None:
            raise TopologyError(f"line {table.header_line}: the peer-to-peer table lacks {missing}; give the tables of one machine")
        cells = {name: dict(zip(table.names, table.rows[name].cells, strict=True)) for name in gpu_names}
        for (i, name), (j, other) in permutations(enumerate(gpu_names), 2):
            state = cells[name][other]
            if state not in PEER_STATES:
                where = f"line {table.rows[name].line}, column {other}"
                raise TopologyError(f"{where}: {state!r} is none of {', '.join(PEER_STATES)}")
            if not counts[i][j] and (table.asked is None or _PEER_ACCESS.match(table.asked)):
                states.append(state)
    if not states or (set(states) <= {"OK", "U"} and "U" in states):
        return None
    return set(states) == {"OK"}
