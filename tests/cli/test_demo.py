"""The demo: its screen labels what is simulated, fits the terminal, and shows the state of the simulated cluster."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from extender.cli.commands.services import demo
from extender.cli.rendering.demo_screen import LEAST_PODS, LEGEND, SIMULATED, Placed, Stage, gpu_marks, index_ranges, row_counts, screen
from extender.errors import ClusterSourceError
from extender.sources.simulated import DEMO_CLUSTER, SimulatedCluster, cluster_machines, simulated
from tests.checkout import ROOT
from tests.objects import GPU, pod
from topology.platforms import platforms

PICTURES = ROOT / "docs/pictures"


def stage_of(cluster: SimulatedCluster, pods: int = 12) -> Stage:
    placed = [Placed(f"llm-{n:03d}-tp8", 8, "a100-pcie-bridge-pairs-0", tuple(range(8)), 240.0, 240.0, "t4-1", 10.0) for n in range(pods)]
    news = "telemetry: an unknown process holds 60 of 80 GiB of GPU 7 on a100-pcie-bridge-pairs-0"
    return Stage(cluster, pods, placed, news, ("t4-0", 0))


def lines(stage: Stage, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(screen(stage, width, height))
    return captured.get().splitlines()


SIZES = [(80, 24), (120, 40), (60, 24), (80, 20), (200, 60), (112, 34)]


@pytest.mark.parametrize(("width", "height"), SIZES, ids=[f"{width}x{height}" for width, height in SIZES])
def test_the_screen_fits_the_terminal_and_shows_pods_and_nodes(width: int, height: int) -> None:
    shown = lines(stage_of(simulated(GPU)), width, height)
    assert len(shown) < height, "a line stays free for the cursor"
    assert all(len(line) <= width for line in shown)
    assert sum("llm-" in line for line in shown) >= LEAST_PODS
    assert sum(any(line.startswith(name[:20]) for name in DEMO_CLUSTER) for line in shown) >= 8
    assert shown[0].startswith(SIMULATED[: width - 1])
    assert shown[-1].startswith("llm-011-t"), "the newest pod is the last line"


def test_nodes_with_the_newest_pods_are_shown_if_not_all_nodes_fit() -> None:
    stage = stage_of(simulated(GPU))
    stage.placed.append(Placed("last", 1, "t4-1", (0,)))
    shown = lines(stage, 80, 20)
    assert any(line.startswith("t4-1") for line in shown)
    assert not any(line.startswith("t4-0") for line in shown)
    assert any(re.match(r"and \d+ more nodes: a higher terminal shows them", line) for line in shown)


@given(st.integers(1, 400), st.integers(0, 300))
def test_rows_never_exceed_the_terminal_that_has_room_for_the_least(height: int, nodes: int) -> None:
    shown_nodes, shown_pods = row_counts(height, nodes)
    assert 0 <= shown_nodes <= nodes
    assert shown_pods >= LEAST_PODS
    assert shown_nodes + shown_pods <= max(height - 7, LEAST_PODS + 2)


def test_a_faulty_gpu_is_drawn_faulty_and_counts_for_no_pair() -> None:
    cluster = SimulatedCluster(cluster_machines({"a40-bridge-pairs": 1}))
    name = "a40-bridge-pairs-0"
    assert gpu_marks(cluster, name).plain == "□□□□"
    cluster.bind(pod(1), name)
    taken = gpu_marks(cluster, name).plain.index("■")
    cluster.xid(name, (taken + 1) % 4, 79)
    cluster.xid(name, (taken + 2) % 4, 43)
    cluster.stray(name, (taken + 3) % 4, 1 << 30)
    marks = gpu_marks(cluster, name).plain
    assert [marks[(taken + step) % 4] for step in range(4)] == ["■", "✗", "□", "▒"], "XID 43 is a program's own doing"
    assert cluster.usable(name) == 1 << (taken + 2) % 4
    row = next(line for line in lines(Stage(cluster, 1), 80, 24) if line.startswith(name))
    assert row.split()[-2:] == ["-", "-"], "one usable GPU is no pair"


@pytest.mark.parametrize("platform", platforms())
def test_the_unknown_process_takes_no_more_than_the_gpu_has(platform: str) -> None:
    cluster = SimulatedCluster(cluster_machines({platform: 1}))
    stage = Stage(cluster, 4)
    if demo._happen(stage, 1) is None:
        pytest.skip(f"{platform} has no GPU that is free")
    held = [reading for change in cluster.telemetry(0.0) for reading in change.devices if reading.fb_used_bytes]
    assert len(held) == 1
    assert held[0].fb_used_bytes is not None
    assert held[0].fb_total_bytes is not None
    assert held[0].fb_used_bytes < held[0].fb_total_bytes
    figures = re.search(r"holds (\d+) of (\d+) GiB", stage.news)
    assert figures is not None
    assert (int(figures[1]), int(figures[2])) == (held[0].fb_used_bytes >> 30, held[0].fb_total_bytes >> 30)


def test_more_memory_than_a_gpu_has_is_refused_by_the_simulation() -> None:
    cluster = simulated(GPU)
    with pytest.raises(ClusterSourceError, match="GPU 0 of dgx-a100-0 has 40 GiB: give the process less than 60 GiB"):
        cluster.stray("dgx-a100-0", 0, 60 << 30)


def test_no_event_happens_in_a_cluster_without_a_usable_gpu() -> None:
    cluster = SimulatedCluster(cluster_machines({"t4": 1}))
    cluster.bind(pod(4), "t4-0")
    stage = Stage(cluster, 3)
    assert [demo._happen(stage, number) for number in range(3)] == [None, None, None]


RANGES = {(): "", (3,): "3", (0, 1, 2, 3): "0-3", (0, 2, 4): "0,2,4", (5, 1, 0, 7, 6): "0-1,5-7"}


@pytest.mark.parametrize("indices", RANGES)
def test_indices_are_written_as_ranges(indices: tuple[int, ...]) -> None:
    assert index_ranges(indices) == RANGES[indices]


def test_picture_of_the_documentation_is_current_and_loads_nothing_from_other_hosts() -> None:
    picture = demo.picture()
    assert (PICTURES / "demo.svg").read_text() == picture, (
        "regenerate it: python -m extender.cli.commands.services.demo docs/pictures/demo.svg"
    )
    words = picture.replace("&#160;", " ")
    assert SIMULATED in words
    assert LEGEND in words
    assert "✗" in re.sub(r"✗ faulty", "", words), "the faulty GPU is drawn"
    assert not re.search(r"url\((?!#)|@import|@font-face|href", picture)
