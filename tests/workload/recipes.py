"""Public recipes of serving engines: command lines, with the GPUs that each container requests. No recipe gives a warning.

Each is shortened to the words that decide about GPUs. Sources, by the beginning of a name: `lws`, `rbg`, `ome`, `aibrix`, `llm-d`,
`kthena`, `gke` are the example manifests of kubernetes-sigs/lws, sgl-project/rbg, sgl-project/ome, vllm-project/aibrix, llm-d/llm-d,
volcano-sh/kthena and GoogleCloudPlatform/kubernetes-engine-samples (`ai-ml`); `sglang docs` are SGLang's pages on DeepSeek, on
data-parallel attention and on server arguments; `vllm docs` are vLLM's pages on data-parallel and expert-parallel deployment and on
parallelism; `dynamo docs` are NVIDIA Dynamo's multi-node examples; `trtllm` are TensorRT-LLM's pages on trtllm-serve and public launch
scripts; `tgi docs` are Text Generation Inference's launcher arguments.
"""

from __future__ import annotations

import shlex

from extender.workload.serving.inference import CommandLine


def recipe(command: str, gpus: int, image: str = "registry/any:1", **environment: str) -> CommandLine:
    return CommandLine("main", image, tuple(shlex.split(command)), environment, gpus)


def script(text: str, gpus: int, image: str = "registry/any:1", **environment: str) -> CommandLine:
    return CommandLine("main", image, ("sh", "-c", text), environment, gpus)


SGLANG = "python3 -m sglang.launch_server --model-path m "
VLLM_MODULE = "python3 -m vllm.entrypoints.openai.api_server --model m "
LWS = "--nnodes $(LWS_GROUP_SIZE) --node-rank $(LWS_WORKER_INDEX) --dist-init-addr $(LWS_LEADER_ADDRESS):20000"
RAY_LEADER = "bash /vllm-workspace/examples/online_serving/multi-node-serving.sh leader --ray_cluster_size=$(LWS_GROUP_SIZE); "

RECIPES: dict[str, CommandLine] = {
    "sglang docs: DeepSeek-V3.2 with data-parallel attention": recipe(SGLANG + "--tp 8 --dp 8 --enable-dp-attention", 8),
    "sglang docs: the same, sizes by their long names": recipe(SGLANG + "--tp-size 8 --dp-size 8 --enable-dp-attention", 8),
    "sglang docs: attention over two replicas within eight ranks": recipe(SGLANG + "--tp 8 --dp 2 --enable-dp-attention", 8),
    "sglang docs: replicas without data-parallel attention": recipe(SGLANG + "--dp 2 --tp 2", 4),
    "sglang docs: the router starts the replicas": recipe("python -m sglang_router.launch_server --model-path m --dp-size 4 --tp 1", 4),
    "sglang docs: two nodes of eight": recipe(SGLANG + "--tp 16 --dist-init-addr 10.0.0.1:5000 --nnodes 2 --node-rank 0", 8),
    "sglang docs: sixteen ranks of attention on two nodes": recipe(
        SGLANG + "--tp 16 --dp 16 --enable-dp-attention --nnodes 2 --node-rank 1 --dist-init-addr 10.0.0.1:5000", 8
    ),
    "sglang docs: two nodes of two": recipe(SGLANG + "--tp 4 --nnodes 2 --node-rank 0 --dist-init-addr sgl-dev-0:50000", 2),
    "sglang docs: pipeline over four nodes": recipe(SGLANG + "--tp 8 --pp-size 4 --nnodes 4 --node-rank 2 --dist-init-addr a:1", 8),
    "sglang docs: experts inside tensor parallelism": recipe(SGLANG + "--tp 8 --ep 8 --moe-a2a-backend deepep", 8),
    "sglang docs: arguments in a file": recipe("python -m sglang.launch_server --config config.yaml", 8),
    "lws: SGLang leader": recipe(SGLANG + f"--tp 2 {LWS}", 1),
    "lws: vLLM leader over Ray": script(RAY_LEADER + VLLM_MODULE + "--tensor-parallel-size 8 --pipeline_parallel_size 2", 8),
    "lws: vLLM worker over Ray": script(
        "bash /vllm-workspace/examples/online_serving/multi-node-serving.sh worker --ray_address=$(LWS_LEADER_ADDRESS)",
        8,
        "docker.io/vllm/vllm-openai:latest",
    ),
    "rbg: leader and worker by their own variables": recipe(
        SGLANG + "--tp-size 4 --dist-init-addr $(RBG_LWP_LEADER_ADDRESS):6379 --nnodes $(RBG_LWP_GROUP_SIZE) --node-rank 0", 1
    ),
    "rbg: vLLM leader, one GPU per node": script(RAY_LEADER + VLLM_MODULE + "--tensor-parallel-size 2", 1),
    "ome: sizes that the operator fills in": recipe(
        SGLANG + "--enable-dp-attention --dp-size $(PARALLELISM_SIZE) --tp-size $(PARALLELISM_SIZE) --nnodes $(LWS_GROUP_SIZE)", 8
    ),
    "aibrix: head of a Ray cluster": script("$KUBERAY_GEN_RAY_START_CMD; vllm serve m --tensor-parallel-size 16", 8),
    "aibrix: head with Ray as the backend": script(
        "ulimit -n 65536; vllm serve m --tensor-parallel-size 8 --pipeline-parallel-size 2 --distributed-executor-backend ray", 8
    ),
    "aibrix: worker of a Ray cluster": script("ulimit -n 65536; $KUBERAY_GEN_RAY_START_CMD;", 8, "aibrix/vllm-openai:v0.7.3"),
    "aibrix: prefill of two pods": script(
        'python3 -m sglang.launch_server --model-path m --nnodes 2 --node-rank $POD_GROUP_INDEX --tp-size 2 --dist-init-addr "${A}:5000"', 1
    ),
    "aibrix: stages of an omni model": recipe("vllm serve Qwen/Qwen2.5-Omni-7B --omni", 2),
    "gke: Ray cluster of two nodes": script(RAY_LEADER + VLLM_MODULE + "--tensor-parallel-size 8 --pipeline-parallel-size 2", 8),
    "vllm docs: data parallelism on one node": recipe("vllm serve m --data-parallel-size 4 --tensor-parallel-size 2", 8),
    "vllm docs: experts on one node": recipe("vllm serve m --tensor-parallel-size 1 --data-parallel-size 8 --enable-expert-parallel", 8),
    "vllm docs: head of two nodes": recipe(
        "vllm serve m --data-parallel-size 4 --data-parallel-size-local 2 --data-parallel-address "
        "10.99.48.128 --data-parallel-rpc-port 13345",
        2,
    ),
    "vllm docs: second of two nodes": recipe(
        "vllm serve m --headless --data-parallel-size 4 --data-parallel-size-local 2 "
        "--data-parallel-start-rank 2 --data-parallel-address a",
        2,
    ),
    "vllm docs: the head has no ranks": recipe(
        "vllm serve m --data-parallel-size 4 --data-parallel-size-local 0 --data-parallel-address a", 1
    ),
    "vllm docs: one rank per process behind a balancer": recipe("vllm serve m --data-parallel-size 2 --data-parallel-rank 1", 1),
    "vllm docs: hybrid balancing": recipe(
        "vllm serve m -dp 16 --tensor-parallel-size 1 --data-parallel-size-local 8 --data-parallel-hybrid-lb --data-parallel-start-rank 8",
        8,
    ),
    "vllm docs: data parallelism over Ray": recipe("vllm serve m --data-parallel-size 4 --data-parallel-backend=ray", 2),
    "vllm docs: processes on two nodes": recipe(
        "vllm serve m --tensor-parallel-size 8 --pipeline-parallel-size 2 --nnodes 2 --node-rank 0 --master-addr a", 8
    ),
    "vllm docs: arguments in a file": recipe("vllm serve --config config.yaml", 4),
    "vllm docs: short flags": recipe("vllm serve m -tp 4 -pp 2", 8),
    "llm-d: wide expert parallelism, decode": script(
        "START_RANK=$(( ${LWS_WORKER_INDEX:-0} * DP_SIZE_LOCAL )); exec vllm serve m --data-parallel-size "
        "$((LWS_GROUP_SIZE * DP_SIZE_LOCAL)) "
        "--data-parallel-size-local ${DP_SIZE_LOCAL} --data-parallel-hybrid-lb --tensor-parallel-size ${TP_SIZE} "
        "--data-parallel-address ${LWS_LEADER_ADDRESS} --data-parallel-start-rank $START_RANK --enable-expert-parallel",
        8,
        DP_SIZE_LOCAL="8",
        TP_SIZE="1",
    ),
    "llm-d: one GPU for each size that is told": recipe("vllm serve m --tensor-parallel-size 4 --kv-transfer-config {}", 4),
    "kthena: an image that brings its own command": recipe("", 2, "vllm/vllm-openai:v0.9.2"),
    "dynamo docs: DeepSeek-R1 over two nodes": recipe(
        "python3 -m dynamo.sglang --model-path m --tp 16 --dp-size 16 --dist-init-addr a:29500 --nnodes 2 "
        "--node-rank 0 --enable-dp-attention",
        8,
    ),
    "dynamo docs: vLLM with replicas": recipe("python3 -m dynamo.vllm --model m --tensor-parallel-size 2 --data-parallel-size 4", 8),
    "dynamo docs: TensorRT-LLM with arguments in a file": recipe("python3 -m dynamo.trtllm --model-path m --extra-engine-args e.yaml", 4),
    "trtllm: DeepSeek-R1 with experts inside": recipe("trtllm-serve m --backend pytorch --tp_size 8 --pp_size 1 --ep_size 4", 8),
    "trtllm: the serve command by its name": recipe("trtllm-serve serve m --tp_size 8 --ep_size 8 --extra_llm_api_options e.yml", 8),
    "trtllm: two nodes by MPI": script(
        "mpirun -np 16 --hostfile $HOSTFILE trtllm-llmapi-launch trtllm-serve m --tp_size 16 --ep_size 16", 8
    ),
    "tgi docs: shards": recipe("text-generation-launcher --model-id m --num-shard 4", 4),
    "tgi docs: all GPUs that are visible": recipe("text-generation-launcher --model-id m --sharded true", 4),
    "tgi docs: shards by the environment": recipe(
        "", 2, "ghcr.io/huggingface/text-generation-inference:3.3.4", NUM_SHARD="2", MODEL_ID="m"
    ),
    "a size with a default in the shell": script("vllm serve m --tensor-parallel-size ${TP:-4}", 4),
    "a size that only the node knows": script("vllm serve m --tensor-parallel-size $(nvidia-smi -L | wc -l)", 8),
    "a start script in the image": recipe("/opt/start.sh", 8, "docker.io/lmsysorg/sglang:v0.5.4"),
}
