"""Machines for tests: a writer of `nvidia-smi topo -m` text, and hypothesis strategies for whole machines."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from topology.machine.hardware import Gpu, Machine, Nic, PciePath


def matrix_text(machine: Machine, *, tabs: bool = True, legend: bool = True, nic_rows: bool = True, escapes: bool = False) -> str:
    """Return a machine as nvidia-smi prints it, in one of its output formats."""
    joint = "\t" if tabs else "    "
    names = [f"GPU{gpu.index}" for gpu in machine.gpus] + [nic.name for nic in machine.nics]
    header = joint.join(["", *names, "CPU Affinity", "NUMA Affinity"])
    lines = [f"\x1b[4m{header}\x1b[0m" if escapes else header]
    count = len(machine.gpus)
    for i, name in enumerate(names):
        if i >= count and not nic_rows:
            break
        cells = [" X " if i == j else _cell(machine, i, j) for j in range(len(names))]
        trailers = []
        if i < count:
            numa = machine.gpus[i].numa_node
            trailers = [machine.gpus[i].cpu_affinity or "N/A", "N/A" if numa is None else str(numa)]
        lines.append(joint.join([name, *cells, *trailers]))
    if legend:
        lines += ["", "Legend:", "", "  X    = Self", "  SYS  = Connection traversing PCIe as well as the SMP interconnect"]
        lines += ["", "NIC Legend:", ""] + [f"  {nic.name}: {nic.device}" for nic in machine.nics if nic.device]
    return "\n".join(lines) + "\n"


def _cell(machine: Machine, i: int, j: int) -> str:
    count = len(machine.gpus)
    if i < count and j < count:
        through = machine.gpus[i].switch_links if machine.gpus[j].switch_links else 0
        links = machine.nvlinks[i][j] or through
        if links:
            return f"NV{links}"
    path = machine.pcie_paths[i][j]
    assert path is not None
    return path.value


@st.composite
def machines(draw: st.DrawFn, most: int = 6, nics: bool = False) -> Machine:
    """A PCIe tree of 2..most GPUs over one or two sockets, with some direct NVLinks or a switched board."""
    count = draw(st.integers(2, most))
    total = count + (draw(st.integers(0, 2)) if nics else 0)
    socket = [draw(st.integers(0, 1)) for _ in range(total)]
    switch = [draw(st.integers(0, 1)) for _ in range(total)]
    local = draw(st.sampled_from([PciePath.PHB, PciePath.NODE]))

    def path(i: int, j: int) -> PciePath | None:
        if i == j:
            return None
        if socket[i] != socket[j]:
            return PciePath.SYS
        return PciePath.PIX if switch[i] == switch[j] else local

    switched = draw(st.booleans())
    links = [[0] * count for _ in range(count)]
    if not switched:
        for i in range(count):
            for j in range(i):
                if draw(st.integers(0, 3)) == 0 and sum(links[i]) < 12 and sum(links[j]) < 12:
                    links[i][j] = links[j][i] = draw(st.integers(1, 4))
    gpus = tuple(
        Gpu(index=i, numa_node=socket[i], cpu_affinity=f"{socket[i] * 8}-{socket[i] * 8 + 7}", switch_links=18 if switched else 0)
        for i in range(count)
    )
    return Machine(
        gpus=gpus,
        nics=tuple(Nic(f"NIC{n}") for n in range(total - count)),
        pcie_paths=tuple(tuple(path(i, j) for j in range(total)) for i in range(total)),
        nvlinks=tuple(map(tuple, links)),
        cpu_model=draw(st.sampled_from([None, "AMD EPYC Genoa", "Intel Ice Lake"])),
        peer_to_peer=draw(st.sampled_from([None, True, False])),
    )


def relabelled(machine: Machine, order: list[int]) -> Machine:
    """The machine with its GPUs enumerated in another order."""
    gpus = tuple(replace(machine.gpus[old], index=new) for new, old in enumerate(order))
    count = len(order)
    places = order + list(range(count, count + len(machine.nics)))
    return replace(
        machine,
        gpus=gpus,
        pcie_paths=tuple(tuple(machine.pcie_paths[a][b] for b in places) for a in places),
        nvlinks=tuple(tuple(machine.nvlinks[a][b] for b in order) for a in order),
    )
