"""Tables in pasted text: whatever stands around them, and in which form they come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machines import machines, matrix_text
from tests.topology.machine.test_host_zones import matrix
from topology.machine.hardware import Machine, PciePath, TopologyError
from topology.machine.matrix import parse_capture, parse_matrix

PAIRS = matrix("NV12 NODE NODE NODE NODE NV12", ["0-7|0"] * 4)
LEGEND = "\nLegend:\n\n  X    = Self\n  OK   = Status Ok\n  CNS  = Chipset not supported\n  U    = Unknown\n"


def peers(state: str, linked: str = "OK", option: str | None = "r", count: int = 4) -> str:
    """A table of `topo -p2p`, as nvidia-smi prints it: GPUs 0-1 and 2-3 have NVLink."""
    lines = [] if option is None else [f"$ nvidia-smi topo -p2p {option}"]
    lines.append(" \t" + "\t".join(f"GPU{i}" for i in range(count)) + "\t")
    for i in range(count):
        cells = ["X" if i == j else linked if i // 2 == j // 2 else state for j in range(count)]
        lines.append(f" GPU{i}\t" + "\t".join(cells) + "\t")
    return "\n".join(lines) + "\n" + LEGEND


PEERS = {
    "read works": (peers("OK"), True),
    "chipset not supported": (peers("CNS"), False),
    "GPU not supported": (peers("GNS"), False),
    "topology not supported": (peers("TNS"), False),
    "not supported": (peers("NS"), False),
    "disabled by a driver setting": (peers("DR"), False),
    "unknown": (peers("U"), None),
    "no command above it": (peers("CNS", option=None), False),
    "reads work, writes do not": (peers("OK") + peers("CNS", option="w"), False),
    "reads and writes in one": (peers("OK", option="rw"), True),
    "only NVLink was asked": (peers("NS", option="n"), None),
    "only atomics were asked": (peers("NS", option="a"), None),
    "NVLink was asked too": (peers("OK") + peers("NS", option="n"), True),
    "of pairs without NVLink": (peers("CNS", linked="OK"), False),
}


@pytest.mark.parametrize("first", ["matrix", "peers"])
@pytest.mark.parametrize("case", PEERS)
def test_peer_to_peer_tables_answer_whether_it_works(case: str, first: str) -> None:
    text, works = PEERS[case]
    machine = parse_matrix(f"{PAIRS}\n{text}" if first == "matrix" else f"{text}\n$ nvidia-smi topo -m\n{PAIRS}")
    assert machine.peer_to_peer is works
    assert machine.nvlinks == parse_matrix(PAIRS).nvlinks


def test_where_nvlink_joins_all_peer_to_peer_over_pcie_is_not_told() -> None:
    assert parse_matrix(matrix("NV4", ["0-7|0"] * 2) + peers("CNS", count=2)).peer_to_peer is None


REFUSED = {
    "peer-to-peer table alone": (peers("OK"), "no header line"),
    "peer-to-peer table of fewer GPUs": (PAIRS + peers("OK", count=2), "the peer-to-peer table lacks GPU2"),
    "peer-to-peer table with a class in it": (PAIRS + peers("OK").replace("\tOK\t", "\tPIX\t", 1), "'PIX' is none of OK"),
    "a second machine": (PAIRS + matrix("PIX NODE NODE NODE NODE PIX", ["0-7|0"] * 4).replace("NODE", "SYS"), "a second matrix says SYS"),
    "a second machine of more GPUs": (
        matrix("PIX", ["0-7|0"] * 2) + matrix("PIX PIX PIX", ["0-7|0"] * 3),
        "a second matrix has other GPUs",
    ),
    "a text without end": ("\n" * 6000, "more than 5000"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_do_not_belong_together_are_refused(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(TopologyError) as error:
        parse_matrix(text)
    assert message in str(error.value)


def test_a_matrix_without_nvlinks_adds_what_nvlinks_hide() -> None:
    text = f"$ nvidia-smi topo -m\n{PAIRS}\n$ nvidia-smi topo -mp\n{matrix('PIX NODE NODE NODE NODE PIX', ['0-7|0'] * 4)}"
    capture = parse_capture(text)
    assert capture.machine.nvlinks[0][1] == 12
    assert capture.machine.pcie_paths[0][1] is PciePath.PIX
    assert capture.notes == ()


def test_a_matrix_that_was_asked_for_without_nvlinks_says_so() -> None:
    (note,) = parse_capture("# srun -n1 nvidia-smi topo -mp\n" + matrix("NODE", ["0-7|0"] * 2)).notes
    assert "topo -mp" in note


def prefixed(sign: str) -> str:
    return "\n".join(sign + line for line in PAIRS.splitlines())


def markdown() -> str:
    rows = [line.split("\t") for line in PAIRS.splitlines()]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def wrapped(width: int) -> str:
    """As a terminal of so many columns shows it, broken between words."""
    lines = []
    for line in PAIRS.expandtabs(8).splitlines():
        text = line
        while len(text) > width:
            cut = text.rfind("  ", 0, width)
            lines.append(text[:cut])
            text = text[cut:].strip()
        lines.append(text)
    return "\n".join(lines)


FORMS = {
    "comments": prefixed("# "),
    "comments with tabs": prefixed("#\t"),
    "quoted mail": prefixed("> "),
    "quoted mail twice": prefixed("> > "),
    "source comments": prefixed("// "),
    "a doc comment": prefixed(" * "),
    "a Markdown table": markdown(),
    "fenced": f"```text\n{PAIRS}```\n",
    "prose around it": f"GPU0 and GPU1 are fine, see below:\n{PAIRS}\nGPU0 to GPU2 is slow, as GPU 3 to GPU2.\n",
    "a prompt and its command": f"root@host:~# nvidia-smi topo -m\n{PAIRS}root@host:~# \n",
    "wrapped by a terminal": wrapped(44),
    "asked twice": f"{PAIRS}\n{PAIRS}",
    "header behind its command": f"$ nvidia-smi topo -m   {PAIRS.lstrip()}",
    "words of a header far apart": PAIRS.replace("CPU Affinity", "CPU    Affinity").replace("NUMA Affinity", "NUMA   Affinity"),
    "a header cut short": PAIRS.replace("NUMA Affinity", "NUMA"),
    "remarks behind arrows": PAIRS.replace("\n", "  ← a remark\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_read_alike(form: str) -> None:
    usual, found = parse_matrix(PAIRS), parse_matrix(FORMS[form])
    assert found == usual


@settings(max_examples=60)
@given(machines(), st.sampled_from(["# ", "> ", "#\t", ">> ", "   "]))
def test_a_prefix_on_every_line_changes_nothing(machine: Machine, sign: str) -> None:
    text = matrix_text(machine)
    assert parse_matrix("\n".join(sign + line for line in text.splitlines())) == parse_matrix(text)


IMPOSSIBLE = {
    "PIX, PIX, SYS": ("PIX SYS PIX", "GPU0-GPU1 is PIX, GPU1-GPU2 is PIX, so GPU0-GPU2 cannot be SYS"),
    "NODE, NODE, SYS": ("NODE SYS NODE", "so GPU0-GPU2 cannot be SYS"),
    "PIX, PHB, NODE": ("PIX NODE PHB", "so GPU0-GPU2 cannot be NODE"),
    "PXB, PXB, PHB": ("PHB PXB PXB", "so GPU0-GPU1 cannot be PHB"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_three_gpus_that_no_tree_can_hold_are_named(case: str) -> None:
    classes, message = IMPOSSIBLE[case]
    with pytest.raises(TopologyError) as error:
        parse_matrix(matrix(classes, ["0-7|0"] * 3))
    assert message in str(error.value)
    assert "fit in no PCIe tree" in str(error.value)


TOO_MANY = {
    "links on a card that has none": ("NVIDIA L40S", "NV4", "has no NVLink"),
    "more links than the card has": ("NVIDIA RTX A6000", "NV12", "has 4"),
    "a card in a mesh": ("NVIDIA A100 80GB PCIe", "NV12", "no NVSwitch"),
}


@pytest.mark.parametrize("case", TOO_MANY)
def test_more_nvlinks_than_the_product_has_are_refused(case: str) -> None:
    product, links, message = TOO_MANY[case]
    with pytest.raises(TopologyError, match="check the product") as error:
        parse_matrix(matrix(" ".join([links] * 3), ["0-7|0"] * 3), product)
    assert message in str(error.value)
    assert "GPU0" in str(error.value)


def test_the_lists_of_numa_nodes_of_gb200_are_kept() -> None:
    text = matrix("NV18 NV18 NV18 NV18 NV18 NV18", ["0-71|0,2-17", "0-71|0,2-17", "72-143|1,18-33", "72-143|1,18-33"])
    gpus = parse_matrix(text, "NVIDIA GB200").gpus
    assert [gpu.numa_affinity for gpu in gpus] == ["0,2-17", "0,2-17", "1,18-33", "1,18-33"]
    assert {gpu.numa_node for gpu in gpus} == {None}, "the list leaves open which is the CPU's"
