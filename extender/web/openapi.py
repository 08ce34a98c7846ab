"""The schemas and examples of the verbs' request bodies for /docs. FastAPI cannot derive them, because `wire` decodes the bytes."""

from __future__ import annotations


def _body(title: str, required: list[str], example: dict[str, object]) -> dict[str, object]:
    schema = {"type": "object", "title": title, "required": required}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


_POD = {
    "metadata": {"name": "llm", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]},
}
NODES = _body("ExtenderArgs", ["Pod"], {"Pod": _POD, "NodeNames": ["gpu-a", "gpu-b"]})
PREEMPT = _body(
    "ExtenderPreemptionArgs",
    ["Pod"],
    {"Pod": _POD, "NodeNameToMetaVictims": {"gpu-a": {"Pods": [{"UID": "2"}], "NumPDBViolations": 0}}},
)
BIND = _body(
    "ExtenderBindingArgs",
    ["PodName", "PodNamespace", "PodUID", "Node"],
    {"PodName": "llm", "PodNamespace": "default", "PodUID": "1", "Node": "gpu-a"},
)
