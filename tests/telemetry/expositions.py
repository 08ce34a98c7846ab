"""Expositions in the shape that engines and exporters write, with own values; each names where its shape is from."""

from __future__ import annotations

from dataclasses import dataclass

from extender.telemetry.readings import EngineReading


@dataclass(frozen=True, slots=True)
class EngineExposition:
    """What one engine writes, and what it means."""

    source: str
    """Where names, labels and number formats are from."""
    text: str
    readings: tuple[EngineReading, ...]


ENGINE_EXPOSITIONS: dict[str, EngineExposition] = {
    "Triton, several models": EngineExposition(
        "Triton 24, docs/user_guide/metrics.md; labels as DataDog/integrations-core nvidia_triton/tests/docker/metrics/metrics.txt",
        "# TYPE nv_inference_request_success counter\n"
        'nv_inference_request_success{model="resnet",version="1"} 41\nnv_inference_request_success{model="bert",version="2"} 7\n'
        "# TYPE nv_inference_pending_request_count gauge\n"
        'nv_inference_pending_request_count{model="resnet",version="1"} 5\nnv_inference_pending_request_count{model="bert",version="2"} 0\n'
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 266338304\nnv_cache_num_hits_per_model{model="resnet",version="1"} 3\n',
        (EngineReading("triton", "resnet", None, 5, None), EngineReading("triton", "bert", None, 0, None)),
    ),
    "Triton, two versions of a model": EngineExposition(
        "Triton 24, docs/user_guide/metrics.md: counts are per model and version",
        'nv_inference_pending_request_count{model="m",version="1"} 2\nnv_inference_pending_request_count{model="m",version="2"} 3\n',
        (EngineReading("triton", "m", None, 5),),
    ),
    "Triton before it counted what is pending": EngineExposition(
        "Triton 21, docs/metrics.md", 'nv_inference_request_success{model="m",version="1"} 9\n', (EngineReading("triton", "m"),)
    ),
    "Triton with TensorRT-LLM, behind steps of its own": EngineExposition(
        "triton-inference-server/tensorrtllm_backend README.md, Triton metrics",
        'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 4\n'
        'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 9\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.5\n'
        'nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 1\n'
        'nv_inference_request_success{model="preprocessing",version="1"} 12\n',
        (EngineReading("triton-tensorrt-llm", "tensorrt_llm", 0.5, 4, 9),),
    ),
    "NIM for LLMs": EngineExposition(
        "DataDog/integrations-core nvidia_nim/tests/fixtures/nim_metrics.txt (NIM 1.x)",
        'process_virtual_memory_bytes 1.15891634176e+011\nnum_requests_running{model_name="meta/llama"} 6.0\n'
        'num_requests_waiting{model_name="meta/llama"} 2.0\nnum_request_max{model_name="meta/llama"} 64.0\n'
        'gpu_cache_usage_perc{model_name="meta/llama"} 0.0002848191398461977\nrequest_failure_total{model_name="meta/llama"} 0.0',
        (EngineReading("nim", "meta/llama", 0.0002848191398461977, 2, 6),),
    ),
    "MindIE, which has NIM's names for requests": EngineExposition(
        "Huawei MindIE: npu_cache_usage_perc", 'num_requests_waiting{model="x"} 8.0\nnpu_cache_usage_perc{model="x"} 0.4\n', ()
    ),
    "Dynamo's frontend": EngineExposition(
        "ai-dynamo/dynamo docs/observability/metrics.md: queued is a part of in flight",
        'dynamo_frontend_disconnected_clients 0\ndynamo_frontend_inflight_requests{model="qwen/qwen3"} 10\n'
        'dynamo_frontend_queued_requests{model="qwen/qwen3"} 7\n',
        (EngineReading("dynamo", "qwen/qwen3", None, 7, 3),),
    ),
    "Dynamo's worker 0.8": EngineExposition(
        "ai-dynamo/dynamo docs/observability/metrics_examples/trtllm.log",
        'dynamo_component_inflight_requests{dynamo_component="tensorrt_llm",dynamo_endpoint="generate",model="Qwen/Qwen3"} 4\n'
        'dynamo_component_inflight_requests{dynamo_component="tensorrt_llm",dynamo_endpoint="load_lora",model="Qwen/Qwen3"} 1\n'
        'dynamo_component_kvstats_gpu_cache_usage_percent{dynamo_component="tensorrt_llm",dynamo_namespace="dynamo"} 0.25\n'
        'trtllm_request_success_total{engine_type="trtllm",finished_reason="length",model_name="Qwen/Qwen3"} 2.0\n',
        (EngineReading("dynamo", "Qwen/Qwen3", 0.25, None, 4),),
    ),
    "Dynamo's worker 1.x, beside vLLM's own": EngineExposition(
        "ai-dynamo/dynamo 1.2: LLMBackendMetrics has the labels model, dynamo_component, dp_rank",
        'dynamo_component_gpu_cache_usage_percent{dp_rank="0",dynamo_component="backend",model="Kimi"} 0.5\n'
        'dynamo_component_gpu_cache_usage_percent{dp_rank="1",dynamo_component="backend",model="Kimi"} 0.75\n'
        'vllm:kv_cache_usage_perc{engine="0",model_name="Kimi"} 0.5\nvllm:num_requests_waiting{engine="0",model_name="Kimi"} 3\n',
        (EngineReading("dynamo", "Kimi", 0.75), EngineReading("vllm", "Kimi", 0.5, 3)),
    ),
    "llama.cpp": EngineExposition(
        "ggml-org/llama.cpp tools/server/README.md; no label names the model",
        "llamacpp:prompt_tokens_total 1000\nllamacpp:requests_processing 2\n"
        "llamacpp:requests_deferred 1\nllamacpp:kv_cache_usage_ratio 0.63\n",
        (EngineReading("llama.cpp", None, 0.63, 1, 2),),
    ),
    "llama.cpp without the KV cache": EngineExposition(
        "ggml-org/llama.cpp tools/server/README.md of late 2025",
        "llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n",
        (EngineReading("llama.cpp", None, None, 0, 0),),
    ),
    "Text Generation Inference": EngineExposition(
        "huggingface/text-generation-inference docs/source/reference/metrics.md",
        'tgi_batch_inference_duration_sum{method="decode"} 30.0\ntgi_queue_size 2\ntgi_batch_current_size 1\n'
        "tgi_batch_current_max_tokens 8192\n",
        (EngineReading("tgi", None, None, 2, 1),),
    ),
    "vLLM behind Ray Serve": EngineExposition(
        "ray-project/ray dashboards/serve_llm_dashboard_panels.py: one process shows its engine with and without a ReplicaId",
        'ray_vllm_num_requests_running{WorkerId="a",ReplicaId="r1",model_name="m"} 2\n'
        'ray_vllm_num_requests_running{WorkerId="a",ReplicaId="",model_name="m"} 2\n'
        'ray_vllm_num_requests_running{WorkerId="b",ReplicaId="r2",model_name="m"} 3\n'
        'ray_vllm:gpu_cache_usage_perc{WorkerId="a",model_name="m"} 0.25\n',
        (EngineReading("vllm", "m", 0.25, None, 5),),
    ),
    "vLLM on one node of several": EngineExposition(
        "vLLM docs, data parallel deployment: the second node has the engines from 4",
        'vllm:num_requests_running{engine="4",model_name="m"} 3.0\nvllm:num_requests_running{engine="5",model_name="m"} 1.0\n'
        'vllm:num_requests_running_created{engine="4",model_name="m"} 1.7e+09\n',
        (EngineReading("vllm", "m", None, None, 4),),
    ),
    "vLLM with UTF-8 names": EngineExposition(
        "Prometheus, exposition formats, text version 1.0.0",
        '# TYPE "vllm:kv_cache_usage_perc" gauge\n{"vllm:kv_cache_usage_perc", model_name="m", "k8s.pod"="p"} 0.5\n# EOF\n',
        (EngineReading("vllm", "m", 0.5),),
    ),
    "SGLang with data-parallel attention": EngineExposition(
        "sgl-project/sglang scheduler_metrics_mixin: a queue per dp_rank, of which a priority's requests are a part",
        'sglang:num_queue_reqs{model_name="m",dp_rank="0",tp_rank="0",priority=""} 4\n'
        'sglang:num_queue_reqs{model_name="m",dp_rank="0",tp_rank="0",priority="1"} 1\n'
        'sglang:num_queue_reqs{model_name="m",dp_rank="1",tp_rank="1",priority=""} 2\n'
        'sglang:token_usage{model_name="m",dp_rank="0"} 0.2\nsglang:token_usage{model_name="m",dp_rank="1"} 0.4\n'
        'sglang:num_running_reqs{model_name="m",dp_rank="0"} NaN\nsglang:num_running_reqs{model_name="m",dp_rank="1"} -3\n',
        (EngineReading("sglang", "m", 0.4, 6, None),),
    ),
    "TensorRT-LLM before its first iteration": EngineExposition(
        "NVIDIA/TensorRT-LLM tensorrt_llm/metrics/collector.py",
        'trtllm_request_success_total{engine_type="trtllm",finished_reason="length",model_name="q"} 2.0\n',
        (EngineReading("tensorrt-llm", "q"),),
    ),
}
