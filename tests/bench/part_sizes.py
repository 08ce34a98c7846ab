"""How much each part of the benchmark does: the default, `--full`, and a tiny one for the benchmark's own tests."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of everything; the defaults are those of `make bench`."""

    platforms: tuple[str, ...] = ()
    """Platforms of the nodes; empty: all."""
    rounds: dict[int, int] = field(default_factory=lambda: {100: 300, 500: 300, 5000: 120, 20_000: 60})
    """Names per request -> pods that are filtered and prioritized."""
    states: tuple[int, ...] = (10, 4000)
    """Distinct node states."""
    nodes: int = 5000
    """Nodes of the parts beside load and of first sight."""
    pods: int = 50_000
    """Pods beside load, and for memory."""
    events_per_second: int = 500
    load_names: tuple[int, ...] = (500, 5000)
    load_seconds: float = 3.0
    """Length of a block with, or without, load."""
    load_blocks: int = 3
    """Blocks of each kind; they alternate."""
    question_rounds: int = 600
    """Pods per block beside questions: a 99th percentile of fewer would be that of the few questions asked meanwhile."""
    telemetry_rounds: int = 100
    sight_states: int = 2000
    memory: tuple[tuple[int, int], ...] = ((1000, 5000), (20_000, 50_000))
    """(nodes, pods)."""
    cluster_nodes: int = 1000
    """Nodes of the real kube-scheduler's cluster."""
    cluster_pods: int = 250
    """Pods per burst."""
    cluster_bursts: int = 2


DEFAULT = Sizes()
FULL = Sizes(
    rounds={100: 2000, 500: 2000, 5000: 600, 20_000: 200},
    load_seconds=10.0,
    load_blocks=5,
    question_rounds=2000,
    telemetry_rounds=600,
    cluster_nodes=5000,
    cluster_pods=500,
    cluster_bursts=5,
)
TINY = Sizes(
    platforms=("l4", "t4"),  # their tables of sets are computed quickly
    rounds={20: 5, 50: 5},
    states=(5, 20),
    nodes=300,
    pods=100,
    events_per_second=50,
    load_names=(100,),
    load_seconds=0.3,
    load_blocks=2,
    question_rounds=10,
    telemetry_rounds=5,
    sight_states=20,
    memory=((50, 100),),
    cluster_nodes=20,
    cluster_pods=10,
    cluster_bursts=1,
)
