"""`fabricwise fit`: what a model needs per GPU, which memory classes are large enough, and which nodes have them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extender.adapters.dump_file import read_text
from extender.decision.cluster import NodeView
from extender.documents import load_documents
from extender.errors import RequestError
from extender.printing import Output, OutputOption, print_answer
from extender.reading import read_cluster, with_source
from extender.settings import Settings
from extender.workload.answers import fit as fit_answer
from extender.workload.memory import DEFAULT_UTILIZATION, USABLE_CLASS_BYTES, Serving, memory_class
from extender.workload.model import DTYPE_BYTES, QUANTIZATION_BYTES, ModelError, ModelShape, from_config


def fit(
    config: Annotated[Path | None, typer.Option("--config", help="The model's Hugging Face config.json.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Instead: a description as JSON.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Of the weights: bf16, fp8, int4, awq ... Without: as published.")] = None,
    kv_dtype: Annotated[str | None, typer.Option("--kv-dtype", help="Of the KV cache. Without: the model's.")] = None,
    context: Annotated[int, typer.Option("--context", min=1, help="Tokens per sequence, prompt and answer.")] = 8192,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Sequences at the same time.")] = 16,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor parallelism: GPUs per stage.")] = 1,
    pp: Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallelism: stages.")] = 1,
    utilization: Annotated[float, typer.Option("--gpu-memory-utilization", min=0.05, max=1.0)] = DEFAULT_UTILIZATION,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Also which nodes: kube, simulated, or a dump file.")] = None,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="For --cluster kube outside a cluster.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What a model needs per GPU, which memory classes fit, and which nodes."""
    shape = _shape(config, model)
    serving = Serving(context, concurrency, tp, pp, _width(dtype, "--dtype"), _width(kv_dtype, "--kv-dtype"), utilization)
    try:
        answer = fit_answer(shape, serving)
    except ModelError as error:
        raise RequestError(str(error)) from error
    if cluster is not None:
        reading = read_cluster(cluster, Settings(), kubeconfig)
        views = reading.snapshot.views
        answer = with_source(answer, reading)
        answer["nodes"] = [_node(view, answer) for _, view in sorted(views.items()) if view.state.allocatable]
    print_answer(answer, output, table)


def _shape(config: Path | None, model: str | None) -> ModelShape:
    if (config is None) == (model is None):
        raise typer.BadParameter("give --config or --model, one of them")
    if model is not None:
        try:
            return msgspec.json.decode(model, type=ModelShape)
        except msgspec.DecodeError as error:
            raise RequestError(f"--model: {error}") from error
    assert config is not None
    documents = load_documents(read_text(config), str(config))
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise RequestError(f"{config}: expected one object, as in a Hugging Face config.json")
    try:
        return from_config(documents[0])
    except ModelError as error:
        raise RequestError(f"{config}: {error}") from error


def _width(name: str | None, option: str) -> float | None:
    if name is None:
        return None
    known = DTYPE_BYTES | QUANTIZATION_BYTES
    if name.lower() not in known:
        raise typer.BadParameter(f"{option} {name!r} is none of {', '.join(sorted(known))}")
    return known[name.lower()]


def _node(view: NodeView, answer: dict[str, Any]) -> dict[str, Any]:
    state, gpus = view.state, answer["gpus"]
    memory = state.gpu_memory_bytes
    fits = None if memory is None else memory >= answer["per_gpu"]["memory_bytes"]
    return {
        "node": view.name,
        "product": state.product,
        "memory_class_gb": memory_class(memory) if memory else None,
        "fits": fits,
        "enough_gpus": state.allocatable >= gpus,
        "free_now": state.free_count,
    }


def table(answer: dict[str, Any]) -> RenderableType:
    """The need by part, classes, nodes."""
    per_gpu = answer["per_gpu"]
    parts = Table(title_justify="left")
    parts.add_column("per GPU")
    parts.add_column("GiB", justify="right")
    for name in ("weights", "kv_cache", "activations", "runtime", "total"):
        parts.add_row(name.replace("_", " "), f"{per_gpu[name + '_bytes'] / 2**30:.1f}", style="bold" if name == "total" else "")
    classes = answer["memory_classes_gb"]
    fits = f"{classes[0]} GB and larger" if classes else f"none: even {max(USABLE_CLASS_BYTES)} GB is too small; use more GPUs"
    said = f"memory classes that fit, using {answer['utilization']:.0%} of a card: {fits}"
    group: list[RenderableType] = [Text(_title(answer), style="italic"), parts, Text(said, style="bold")]
    group += [Text(f"warning: {warning}", style="yellow") for warning in answer["warnings"]]
    if "nodes" in answer:
        group.append(_nodes(answer["nodes"]))
    return Group(*group)


def _title(answer: dict[str, Any]) -> str:
    size = f"{answer['parameters'] / 1e9:.1f} billion parameters"
    weights = f"{answer['all_weights_bytes'] / 1e9:.0f} GB of weights"
    return f"{answer['model'] or 'model'}: {size}, {weights}, {answer['concurrency']} x {answer['context']} tokens on {answer['gpus']} GPUs"


def _nodes(nodes: list[dict[str, Any]]) -> Table:
    found = Table(title="nodes", title_justify="left")
    for name in ("node", "product", "class GB", "fits", "GPUs free"):
        found.add_column(name, justify="right" if name in ("class GB", "GPUs free") else "left", no_wrap=True)
    for one in sorted(nodes, key=lambda node: (not (node["fits"] and node["enough_gpus"]), node["node"])):
        word = "memory unknown" if one["fits"] is None else "too little memory" if not one["fits"] else "yes"
        word = word if one["enough_gpus"] or word != "yes" else "too few GPUs"
        found.add_row(one["node"], one["product"] or "?", str(one["memory_class_gb"] or "?"), word, str(one["free_now"]))
    return found
