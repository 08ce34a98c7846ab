"""Machines as graphs for drawing, and the bandwidth of chosen sets: names agree, and nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.node.node_state import NodeView
from extender.decision.report.live.machine_graph import MachineGraph, machine_graph
from extender.decision.report.live.set_bandwidth import set_bandwidth
from extender.kube.objects.decode import seen
from extender.scheduling.cluster_store import ClusterStore
from extender.sources.simulated import SimulatedCluster, simulated
from extender.telemetry.conditions import TUNING
from tests.machines import machines
from tests.objects import GPU, node, pod, snapshot, topology
from tests.web.live_clusters import served_debug, small_service
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Gpu, Machine, PciePath, mask_of
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms


def view_of(machine: Machine) -> NodeView:
    """The view of a node with this machine, which all its GPUs are free of."""
    return snapshot(node("n", len(machine.gpus)), encode(TopologyRecord("n", machine))).views["n"]


def graph_of(view: NodeView) -> MachineGraph:
    return machine_graph(view, None, (), None, TUNING, 0.85)


@pytest.mark.parametrize("platform", platforms())
def test_the_drawn_numa_zone_of_a_gpu_has_the_number_that_its_row_has(platform: str) -> None:
    graph = graph_of(view_of(machine_of(platform, "n")))
    parents = {vertex.id: vertex.parent for vertex in graph.vertices}
    for gpu in graph.gpus:
        above: str = gpu.vertex
        while (parent := parents[above]) is not None:
            above = parent
        assert gpu.numa_node is None or above in (f"NUMA zone {gpu.numa_node}", gpu.vertex)


def check(graph: MachineGraph, machine: Machine) -> None:
    """The laws of every graph."""
    vertices, edges = {vertex.id: vertex for vertex in graph.vertices}, {edge.id for edge in graph.edges}
    assert len(vertices) == len(graph.vertices)
    assert len(edges) == len(graph.edges)
    assert all(edge.a in vertices and edge.b in vertices for edge in graph.edges)
    assert all(vertex.parent in vertices for vertex in graph.vertices if vertex.parent is not None)
    assert all(vertices[gpu.vertex].gpu == gpu.gpu for gpu in graph.gpus)
    assert sorted(vertex.column for vertex in graph.vertices if vertex.column is not None) == list(range(len(machine.gpus)))
    linked = {frozenset((edge.a, edge.b)): edge.links for edge in graph.edges if edge.kind == "nvlink"}
    names = [f"GPU {gpu.index}" for gpu in machine.gpus]
    for a, b in combinations(range(len(names)), 2):
        assert linked.get(frozenset((names[a], names[b])), 0) == machine.nvlinks[a][b]
    for position, gpu in enumerate(machine.gpus):
        assert linked.get(frozenset((names[position], "NVSwitch")), 0) == (gpu.switch_links or 0)


@pytest.mark.parametrize("platform", platforms())
def test_graph_of_every_platform_has_all_its_links(platform: str) -> None:
    machine = machine_of(platform)
    check(graph_of(view_of(machine)), machine)


@given(machines())
@settings(max_examples=25)
def test_graph_of_any_machine_has_all_its_links(machine: Machine) -> None:
    if machine.gpus:
        graph = graph_of(view_of(machine))
        if graph.drawable:
            check(graph, machine)


@given(st.sampled_from(sorted(platforms())), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_limiting_edges_are_edges_of_the_graph_and_bandwidth_is_that_of_the_table(platform: str, random: object) -> None:
    machine = machine_of(platform)
    count = len(machine.gpus)
    chosen = tuple(sorted(random.sample(range(count), random.randint(2, min(count, 8)))))  # type: ignore[attr-defined]
    found = set_bandwidth("n", machine, chosen, "mixed")
    assert found.busbw_gbps == table_for(machine).busbw_gbps(mask_of(chosen))
    assert set(found.limiting_edges) <= {edge.id for edge in graph_of(view_of(machine)).edges}
    assert found.limiting_edges
    assert found.bottleneck == found.sentences[0]
    assert found.best_of_size is not None
    assert (found.best_of_size.busbw_gbps or 0) >= (found.busbw_gbps or 0)


def test_names_use_the_indices_of_nvidia_smi_where_a_gpu_is_lost() -> None:
    whole = machine_of("dgx-1v")
    kept = [position for position in range(8) if position != 2]
    machine = replace(
        whole,
        gpus=tuple(whole.gpus[position] for position in kept),
        pcie_paths=tuple(tuple(whole.pcie_paths[a][b] for b in kept) for a in kept) if not whole.nics else whole.pcie_paths,
        nvlinks=tuple(tuple(whole.nvlinks[a][b] for b in kept) for a in kept),
    )
    graph = graph_of(view_of(machine))
    check(graph, machine)
    assert [gpu.gpu for gpu in graph.gpus] == kept
    assert set(set_bandwidth("n", machine, (3, 7), "mixed").limiting_edges) == {"NVLink 3-7"}


def test_missing_bridge_is_named_at_its_gpus_and_links() -> None:
    """One of four bridges of A100 cards is missing: the two GPUs say so, the other six do not."""
    whole = machine_of("a100-pcie-bridge-pairs")
    nvlinks = tuple(tuple(0 if {a, b} == {2, 3} else whole.nvlinks[a][b] for b in range(8)) for a in range(8))
    graph = graph_of(view_of(replace(whole, nvlinks=nvlinks)))
    missing = {gpu.gpu: gpu.missing_links for gpu in graph.gpus if gpu.missing_links}
    assert set(missing) == {2, 3}
    assert missing[2] == "GPU 2 has no NVLink up, and 6 of the other 7 GPUs have up to 12: is a bridge missing?"
    assert "NVLink 2-3" not in {edge.id for edge in graph.edges}


def test_best_set_is_not_searched_where_that_takes_seconds() -> None:
    """Sixteen GPUs of which hardly two are interchangeable have thousands of sets of a size."""
    sockets = [position // 8 for position in range(16)]
    paths = tuple(
        tuple(None if a == b else PciePath.PHB if sockets[a] == sockets[b] else PciePath.SYS for b in range(16)) for a in range(16)
    )
    links = [[0] * 16 for _ in range(16)]
    for position in range(15):
        links[position][position + 1] = links[position + 1][position] = 1 + position % 3
    machine = Machine(
        tuple(Gpu(position, numa_node=socket) for position, socket in enumerate(sockets)), (), paths, tuple(map(tuple, links))
    )
    found = set_bandwidth("n", machine, (0, 1, 2), "mixed")
    assert found.best_of_size is None
    assert found.busbw_gbps is not None
    assert found.limiting_edges


def test_memory_is_told_apart_by_known_pods_and_unknown_processes() -> None:
    cluster, store = simulated(GPU, {"t4": 1}), ClusterStore(GPU)
    store.apply(cluster.listing())
    (held,) = cluster.bind(pod(1), "t4-0", store)
    stray = next(index for index in range(4) if index != held)
    cluster.stray("t4-0", stray, 8 << 30)
    store.apply(cluster.telemetry(1.0))
    state = store.snapshot
    graph = machine_graph(state.views["t4-0"], state.telemetry["t4-0"], (), 3.0, TUNING, 0.85)
    by_index = {gpu.gpu: gpu for gpu in graph.gpus}
    of_pod, of_stray = by_index[held], by_index[stray]
    assert (of_pod.state, of_pod.pods, of_pod.memory.unknown_bytes) == ("taken", ("team/llm",), 0)
    assert of_pod.memory.known_pods_bytes == of_pod.memory.used_bytes
    assert (of_stray.state, of_stray.pods, of_stray.memory.known_pods_bytes, of_stray.memory.unknown_bytes) == ("excluded", (), 0, 8 << 30)
    assert of_stray.telemetry_age_seconds == 2.0
    assert not of_stray.telemetry_is_stale


def test_memory_of_a_gpu_whose_holder_is_only_predicted_is_not_told_apart() -> None:
    state = snapshot(node("n", 4), topology("n", "t4"), pod(4, node="n"))
    store, cluster = ClusterStore(GPU), SimulatedCluster({"n": machine_of("t4")}, GPU)
    store.apply(cluster.listing())
    store.apply(cluster.telemetry(1.0))
    graph = machine_graph(state.views["n"], store.snapshot.telemetry["n"], (), 1.0, TUNING, 0.85)
    assert {gpu.state for gpu in graph.gpus} == {"unknown"}
    assert {gpu.pods for gpu in graph.gpus} == {("team/llm",)}
    assert not any(gpu.pods_are_known for gpu in graph.gpus)
    assert {(gpu.memory.known_pods_bytes, gpu.memory.unknown_bytes) for gpu in graph.gpus} == {(None, None)}


def test_machine_of_a_node_whose_topology_is_unknown_says_why_it_is_not_drawn() -> None:
    state = snapshot(node("n", 3))
    graph = graph_of(state.views["n"])
    assert (graph.drawable, graph.vertices, graph.gpus) == (False, (), ())
    assert graph.why_not_drawable == "topology unknown: no GpuTopology, using labels and counts"


# query -> (status, part of the error)
BAD_QUERIES = {
    "t4-0/bandwidth?gpus=0,9": (400, "no GPU 9"),
    "t4-0/bandwidth?gpus=0,0": (400, "named twice"),
    "t4-0/bandwidth?gpus=": (400, "not a list of GPU indices"),
    "t4-0/bandwidth?gpus=0;1": (400, "not a list of GPU indices"),
    "t4-0/bandwidth?gpus=-1": (400, "not a list of GPU indices"),
    "t4-0/bandwidth?gpus=²": (400, "not a list of GPU indices"),
    "t4-0/bandwidth?gpus=" + ",".join("0" * 17): (400, "not a list of GPU indices"),
    "t4-0/bandwidth": (422, ""),
    "t4-0/bandwidth?gpus=" + "0" * 200: (422, ""),
    "t4-9/bandwidth?gpus=0,1": (404, "did you mean"),
    "counted/bandwidth?gpus=0,1": (409, "topology unknown"),
    "%3Cb%3E/machine": (404, "no node '<b>' is known"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    service, _ = small_service()
    service.store.apply((seen("Node", node("counted", 2)),))
    with served_debug(service) as found:
        yield found


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_bad_question_is_a_clear_error(client: httpx.Client, query: str) -> None:
    response = client.get(f"/v1/nodes/{query}")
    status, part = BAD_QUERIES[query]
    assert response.status_code == status, response.text
    assert part in (response.json().get("error") or "")


def test_served_answers_have_what_the_page_shows(client: httpx.Client) -> None:
    machine = client.get("/v1/nodes/hgx-h100-0/machine").json()
    assert (machine["node"], machine["fabric"], machine["drawable"], len(machine["gpus"])) == ("hgx-h100-0", "NVSwitch", True, 8)
    assert {"revision", "at_seconds", "state_age_seconds"} <= set(machine)
    single = client.get("/v1/nodes/hgx-h100-0/bandwidth?gpus=3").json()
    assert (single["busbw_gbps"], single["bottleneck"], single["limiting_edges"], single["best_of_size"]) == (None, None, [], None)
    pair = client.get("/v1/nodes/hgx-h100-0/bandwidth?gpus=7,3").json()
    assert (pair["gpus"], pair["busbw_gbps"]) == ([3, 7], 360.0)
