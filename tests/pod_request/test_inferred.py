"""What is inferred from the command lines of a pod, in explanations and decisions."""

from __future__ import annotations

import json
from typing import Any

from extender.decision.request.inferred_workload import inferred, inferred_answer
from extender.decision.request.pod_request import Demand, demand_of
from tests.conftest import Served
from tests.decision.verdicts.test_decision import ask, machine
from tests.objects import GPU, container, pod, pod_struct, snapshot

LLAMA_70B = {
    "layers": 80, "hidden_size": 8192, "attention_heads": 64, "kv_heads": 8, "head_size": 128, "parameters": 70_553_706_496,
    "intermediate_size": 28672, "vocabulary": 128256,
}  # fmt: skip


def serving(gpus: int, *words: str, **annotations: str) -> dict[str, Any]:
    vllm = container(gpus, "vllm", image="vllm/vllm-openai:v0.10.1", args=["serve", *words], env=[{"name": "TP", "value": "4"}])
    keys = {f"fabricwise.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return pod(spec={"containers": [container(None, "proxy"), vllm]}, annotations=keys)


def inferred_from(manifest: dict[str, Any]) -> dict[str, Any]:
    decoded = pod_struct(manifest)
    demand = demand_of(decoded, GPU)
    assert isinstance(demand, Demand)
    return inferred_answer(inferred(decoded, demand, GPU))


def test_each_fact_names_the_argument_that_it_is_from() -> None:
    answer = inferred_from(serving(4, "m", "--tensor-parallel-size", "$(TP)"))
    assert {(fact["fact"], fact["value"], fact["from"]) for fact in answer["facts"]} == {
        ("tensor_parallel", 4, "container vllm, --tensor-parallel-size"), ("model", "m", "container vllm, argument serve m"),
    }  # fmt: skip
    assert answer["warnings"] == []


def test_tensor_parallelism_that_differs_from_the_gpus_is_a_warning_and_rejects_no_node() -> None:
    state = snapshot(*machine("n", "hgx-h100"))
    answer = ask(state, serving(4, "m", "-tp", "2"))
    assert answer["chosen"] == "n"
    assert answer["inferred"]["warnings"] == ["container vllm runs with tensor parallelism 2, but requests 4 GPUs"]


def test_model_description_makes_memory_need_and_attention_heads_known() -> None:
    model = json.dumps(LLAMA_70B)
    need = inferred_from(serving(4, "m", "-tp", "4", "--quantization", "fp8", model=model))["gpu_memory_bytes"]
    assert 24 * 2**30 < need < 40 * 2**30
    assert inferred_from(serving(3, "m", "-tp", "3", model=model))["warnings"] == [
        "container vllm: tensor parallelism 3 does not divide 64 attention heads"
    ]
    short = inferred_from(serving(4, "m", "-tp", "4", model=model, min_gpu_memory="24Gi"))
    assert short["warnings"][0].startswith("its model needs ")


def test_each_data_parallel_replica_has_all_weights_but_a_mixture_divides_its_experts() -> None:
    """vLLM: data-parallel ranks of a dense model are copies; the experts of a mixture are divided among them."""
    mixture = json.dumps({**LLAMA_70B, "active_parameters": 10_000_000_000})
    dense_need = inferred_from(serving(8, "m", "-dp", "8", "--quantization", "fp8", model=json.dumps(LLAMA_70B)))["gpu_memory_bytes"]
    assert dense_need > 70_553_706_496
    assert inferred_from(serving(8, "m", "-dp", "8", "--quantization", "fp8", model=mixture))["gpu_memory_bytes"] < dense_need / 2


def test_model_description_with_windows_and_state_needs_less_memory() -> None:
    """A hybrid model: four layers with full attention, four with a window of 1000 tokens, and a recurrent state."""
    caches = [{"kind": "full", "layers": 4, "numbers": 2048, "heads": 8}, {"kind": "sliding", "layers": 4, "numbers": 2048, "window": 1000}]
    hybrid = {**LLAMA_70B, "caches": caches, "state_bytes": 1 << 20, "published_bytes": 70_000_000_000}
    needs = [inferred_from(serving(4, "m", "-tp", "4", model=json.dumps(model)))["gpu_memory_bytes"] for model in (hybrid, LLAMA_70B)]
    assert needs[0] < needs[1] / 1.5


def test_nothing_is_inferred_from_a_pod_without_engine_or_gpus() -> None:
    assert inferred_from(pod(2)) == {"facts": [], "gpu_memory_bytes": None, "warnings": []}
    assert inferred_from(pod()) == {"facts": [], "gpu_memory_bytes": None, "warnings": []}


def test_inferred_memory_need_affects_the_score_and_rejects_nodes_only_if_enforced() -> None:
    from dataclasses import replace

    from extender.decision.evaluate.evaluator import Evaluator
    from extender.decision.evaluate.policy import Policy
    from extender.decision.report.serializers import explain
    from extender.server.from_settings import ranker
    from extender.settings import Scoring
    from topology.placement.set_table import DEFAULT_SIZE_MIX

    state = snapshot(*machine("small", "dgx-a100"), *machine("large", "a100-pcie-bridge-pairs"))
    asked = pod_struct(serving(4, "m", "-tp", "4", model=json.dumps(LLAMA_70B)))

    def refused(policy: Policy) -> dict[str, str | None]:
        answer = explain(Evaluator(policy), ranker(Scoring()), state, asked, GPU)
        return {row["node"]: row["rejection"]["reason"] if row["rejection"] else None for row in answer["nodes"]}

    not_enforced = Policy(DEFAULT_SIZE_MIX)
    row = next(r for r in explain(Evaluator(not_enforced), ranker(Scoring()), state, asked, GPU)["nodes"] if r["node"] == "small")
    assert "its model is reckoned to need" in row["scores"]["memory"]["detail"]
    assert refused(not_enforced) == {"small": None, "large": None}
    assert refused(replace(not_enforced, enforce_inferred=True)) == {"small": "GPU memory class too small", "large": None}


def test_decision_contains_the_warnings_about_the_pod(served: Served) -> None:
    manifest = serving(4, "m", "-tp", "2")
    served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": ["hgx-h100-0"]})
    decision = served.client.get("/v1/decisions").json()["decisions"][0]
    assert decision["warnings"] == ["container vllm runs with tensor parallelism 2, but requests 4 GPUs"]
