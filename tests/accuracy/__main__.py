"""Prints one table per source. Small and deterministic: the same on every machine."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from tests.accuracy.figures import MEASURED, nccl_search, plugin_vectors
from tests.accuracy.hosts import host_searches
from tests.accuracy.report import against_mapa, against_nccl, by_counting_links, measured_gbps, rank_correlation
from tests.accuracy.test_accuracy import AIM_ERROR, AIM_RANK, AIM_REGRET, KNOWN_MISSES
from topology.devices.device_plugin import best_effort

console = Console(width=None if sys.stdout.isatty() else 150)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place > 1 else "left", no_wrap=True)
    return table


def nccl() -> Table:
    """NCCL's own search."""
    aims = f"rank >= {AIM_RANK} at 1 and 256 MiB, regret <= {AIM_REGRET:.0%}, median error <= {AIM_ERROR:.0%}"
    figures_of = ("machine", "message", "sets", "rank", "median error", "largest", "regret", "of ties", "")
    table = _table(f"NCCL 2.30.7's search, every set. Aims: {aims}", *figures_of)
    for machine in nccl_search():
        for row in against_nccl(machine):
            miss = KNOWN_MISSES.get((row.machine, row.message), "")
            figures = (f"{row.rank_correlation:.3f}", f"{row.median_error:.1%}", f"{row.largest_error:.0%}")
            note = "sets do not differ" if not machine.sets_differ else "known miss" if miss else ""
            table.add_row(row.machine, row.message, str(row.sets), *figures, f"{row.regret:.1%}", f"{row.regret_of_ties:.1%}", note)
        table.add_section()
    return table


def hosts() -> Table:
    """NCCL's own search on cloud VMs and on sockets of several NUMA nodes."""
    title = "NCCL 2.30.7's search where NUMA nodes and path classes disagree or a socket has several nodes: worst of five message sizes"
    table = _table(title, "machine", "sets", "rank", "median error", "largest", "regret")
    for machine in host_searches():
        rows = against_nccl(machine)
        ranks = [
            row.rank_correlation for row in rows if row.rank_correlation == row.rank_correlation
        ]  # not a number: all figures are equal
        worst = (max(getattr(row, name) for row in rows) for name in ("median_error", "largest_error", "regret"))
        table.add_row(machine.name, str(rows[0].sets), f"{min(ranks):.3f}", *(f"{share:.1%}" for share in worst))
    return table


def counting() -> Table:
    """Link counting, as the device plugin does it."""
    table = _table("the same sets ranked by counting links (the plugin's pair scores)", "machine", "message", "rank", "regret", "of ties")
    for machine in nccl_search():
        for row in by_counting_links(machine):
            table.add_row(row.machine, row.message, f"{row.rank_correlation:.3f}", f"{row.regret:.1%}", f"{row.regret_of_ties:.1%}")
    return table


def mapa() -> Table:
    """MAPA's model on DGX-1V."""
    rows = against_mapa(nccl_search()[0])
    ranks = ", ".join(f"{whose} {rank_correlation(rows, whose):.2f}" for whose in ("ours", "mapa"))
    title = f"MAPA (SC'21) on DGX-1V: best / median / worst set, GB/s at 256 MiB. Rank correlation with NCCL: {ranks}"
    table = _table(title, "GPUs", "NCCL's search", "ours", "MAPA")
    for row in rows:
        table.add_row(str(row.gpus), *(" / ".join(f"{gbps:.1f}" for gbps in thirds) for thirds in (row.nccl, row.ours, row.mapa)))
    return table


def measurements() -> Table:
    """Real machines."""
    table = _table(
        "measured on real machines, first n GPUs, GB/s", "machine", "source", "GPUs", "message", "measured", "ours", "off", "aim"
    )
    for what in MEASURED:
        ours = measured_gbps(what)
        aim = f"{what.within:.0%}" if what.within else "old library" if what.old_library else ""
        size = f"{what.message_bytes >> 20} MiB" if what.message_bytes >= 1 << 20 else f"{what.message_bytes >> 10} KiB"
        figures = (f"{what.gbps:.2f}", f"{ours:.2f}", f"{ours / what.gbps - 1:+.0%}")
        table.add_row(what.platform, what.source[:40], str(what.gpus), size, *figures, aim)
    return table


def plugin() -> str:
    """NVIDIA's policy."""
    vectors = list(plugin_vectors())
    right = sum(tuple(best_effort(v.score, v.available, v.required, v.size)) == v.result for v in vectors)
    nil = sum(None in v.result for v in vectors)
    return f"NVIDIA's real allocation policy: {right} of {len(vectors)} results reproduced, {nil} with a nil device among them"


def main() -> None:
    """All tables."""
    for part in (nccl, hosts, counting, mapa, measurements, plugin):
        console.print(part())
        console.print()
    for machine, why in {(machine, why) for (machine, _), why in KNOWN_MISSES.items()}:
        console.print(f"known miss: {machine}: {why}")


if __name__ == "__main__":
    main()
