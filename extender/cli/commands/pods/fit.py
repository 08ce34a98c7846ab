"""`fabricwise fit`: what a model needs per GPU, which memory classes are large enough, and which nodes have them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extender.cli.options.cluster_options import KubeconfigOption
from extender.cli.options.output_options import OutputOption
from extender.cli.reading import read_cluster, with_source
from extender.cli.rendering.console.output import Output, print_answer
from extender.decision.node.node_state import NodeView
from extender.errors import RequestError
from extender.settings import Settings
from extender.sources.model_folder import read_model
from extender.workload.architecture.recognition import from_config
from extender.workload.architecture.sizes import Recognised
from extender.workload.checkpoint.file_sizes import Stated
from extender.workload.checkpoint.quantization import NONE, Quantization, plain
from extender.workload.checkpoint.schemes import DTYPE_BYTES, NAMED, QUANTIZATION_BYTES
from extender.workload.fit_serializers import described
from extender.workload.fit_serializers import fit as fit_answer
from extender.workload.memory import DEFAULT_UTILIZATION, USABLE_CLASS_BYTES, Serving, memory_class
from extender.workload.model import ModelError, ModelShape, contradiction


def fit(
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Folder with config.json and optionally the weights' files, whose sizes are read; or config.json; or JSON."
        ),
    ],
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Data type of the weights: bf16, fp8, int4, awq ... Default: as published.")
    ] = None,
    kv_dtype: Annotated[str | None, typer.Option("--kv-dtype", help="Data type of the KV cache. Default: the model's.")] = None,
    context: Annotated[int, typer.Option("--context", min=1, help="Tokens per sequence, prompt and answer together.")] = 8192,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Sequences at the same time.")] = 16,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor parallelism: GPUs per stage.")] = 1,
    pp: Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallelism: stages.")] = 1,
    utilization: Annotated[float, typer.Option("--gpu-memory-utilization", min=0.05, max=1.0)] = DEFAULT_UTILIZATION,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Also list the nodes of a cluster: kube, simulated, or a dump file.")
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context_name: Annotated[
        str | None, typer.Option("--kube-context", help="Context of the kubeconfig; --context is a number of tokens here.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what memory a model needs per GPU, which memory classes fit, and which nodes have them."""
    width, kv_width = _width(dtype, "--dtype"), _width(kv_dtype, "--kv-dtype")
    try:
        recognised, stated = _recognised(model, dtype)
        by_description = recognised.architecture == "described"
        serving = Serving(context, concurrency, tp, pp, width if by_description else None, kv_width, utilization)
        answer = fit_answer(recognised, serving, stated)
    except ModelError as error:
        raise RequestError(f"{'--model' if model.lstrip().startswith('{') else model}: {error}") from error
    if answer["model"] is None and not model.lstrip().startswith("{"):
        answer["model"] = _name(Path(model))
    if cluster is not None:
        reading = read_cluster(cluster, Settings(), kubeconfig, context=context_name)
        views = reading.snapshot.views
        answer = with_source(answer, reading)
        answer["nodes"] = [_node(view, answer) for _, view in sorted(views.items()) if view.state.allocatable]
    print_answer(answer, output, table, names=None if cluster is None else _names)


def _names(answer: dict[str, Any]) -> list[str]:
    """Return the nodes that the model fits on."""
    return [f"node/{node['node']}" for node in answer["nodes"] if node["fits"] and node["enough_gpus"]]


def _name(path: Path) -> str:
    """Return the name of the folder, which usually is that of the model."""
    return (path if path.is_dir() else path.parent).resolve().name


def _recognised(model: str, dtype: str | None) -> tuple[Recognised, Stated | None]:
    """Return the model, and the size that its files state; None with another dtype. Raises RequestError or ModelError."""
    if model.lstrip().startswith("{"):
        return described(_description(model.encode(), "--model")), None
    files = read_model(Path(model))
    if {"layers", "parameters"} <= files.config.keys():
        return described(_description(msgspec.json.encode(files.config), files.where)), None
    override = _override(dtype)
    return from_config(files.config, override), files.stated if override is None else None


def _description(text: bytes, where: str) -> ModelShape:
    try:
        shape = msgspec.json.decode(text, type=ModelShape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"{where}: {error}; see `fabricwise fit --help` for an example") from error
    problem = contradiction(shape)
    if problem is not None:
        raise RequestError(f"{where}: {problem}; correct the description")
    return shape


def _override(dtype: str | None) -> Quantization | None:
    if dtype is None:
        return None
    scheme = NAMED.get(dtype.lower())
    return NONE if scheme is None else plain(scheme, dtype.lower())


def _width(name: str | None, option: str) -> float | None:
    if name is None:
        return None
    known = DTYPE_BYTES | QUANTIZATION_BYTES
    if name.lower() not in known:
        raise typer.BadParameter(f"{option} {name!r} is not one of {', '.join(sorted(known))}")
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
    """Return the tables of an answer: memory by part, sources of the figures, memory classes, nodes."""
    per_gpu, bounds = answer["per_gpu"], answer["bounds"]
    parts = Table(title_justify="left")
    parts.add_column("per GPU" + (", upper bound" if bounds else ""))
    parts.add_column("GiB", justify="right")
    for name in ("weights", "kv_cache", "state", "activations", "runtime", "total"):
        if name != "state" or per_gpu["state_bytes"]:
            label = "KV cache" if name == "kv_cache" else name
            parts.add_row(label, f"{per_gpu[name + '_bytes'] / 2**30:.1f}", style="bold" if name == "total" else "")
    classes = answer["memory_classes_gb"]
    fits = f"{classes[0]} GB and larger" if classes else f"none: even {max(USABLE_CLASS_BYTES)} GB is too small; use more GPUs"
    sentence = f"memory classes that fit, using {answer['utilization']:.0%} of a GPU's memory: {fits}"
    group: list[RenderableType] = [Text(_title(answer), style="italic"), Text(_origin(answer)), parts]
    group += [_weights(answer)] if answer["parts"] else []
    group += [Text(sentence, style="bold"), _capacity(answer)]
    group += [Text(f"warning: {warning}", style="yellow") for warning in answer["warnings"]]
    if "nodes" in answer:
        group.append(_nodes(answer["nodes"]))
    return Group(*group)


def _title(answer: dict[str, Any]) -> str:
    size, weights = f"{answer['parameters'] / 1e9:.1f}", f"{answer['all_weights_bytes'] / 1e9:.1f}"
    if answer["bounds"]:
        low, high = answer["bounds"]["weights_bytes"]
        size, weights = f"at most {size}", weights if low == high else f"{low / 1e9:.1f} to {high / 1e9:.1f}"
    served = f"{answer['concurrency']} x {answer['context']} tokens on {answer['gpus']} GPUs"
    return f"{answer['model'] or 'model'}: {size} billion parameters, {weights} GB of weights, {served}"


def _origin(answer: dict[str, Any]) -> str:
    """Return a line with the architecture, quantisation, source of the weights and KV cache."""
    known = answer["unknown"] or f"architecture {answer['architecture']}"
    per_token = f"{answer['kv_bytes_per_token']:.0f} bytes of KV cache per token"
    if answer["bounds"]:
        low, high = answer["bounds"]["kv_bytes_per_token"]
        per_token = per_token if low == high else f"{low:.0f} to {high:.0f} bytes of KV cache per token"
    windows = sorted({cache["window"] for cache in answer["kv_cache"] if cache["window"]})
    if windows:
        layers = sum(cache["layers"] for cache in answer["kv_cache"] if cache["window"])
        per_token += f" ({layers} layers keep at most {windows[-1]} tokens)"
    state = answer["state_bytes_per_sequence"]
    at_most = "at most " if answer["bounds"] else ""
    state_text = f", {at_most}{state / 2**20:.1f} MiB of state per sequence" if state else ""
    unloaded = answer["all_weights_bytes"] - answer["loaded_weights_bytes"]
    unloaded_text = (
        f" ({unloaded / 1e9:.1f} GB of them for multi-token prediction, loaded only for speculative decoding)" if unloaded else ""
    )
    return f"{known}; quantisation {answer['quantization']}; weights from {answer['weights_from']}{unloaded_text}; {per_token}{state_text}"


def _weights(answer: dict[str, Any]) -> Table:
    parts = Table(title="weights by part", title_justify="left")
    for name in ("part", "billion", "GB"):
        parts.add_column(name, justify="left" if name == "part" else "right")
    for part in answer["parts"]:
        if part["parameters"] >= 5e5:
            parts.add_row(part["part"], f"{part['parameters'] / 1e9:.3f}", f"{part['weight_bytes'] / 1e9:.2f}")
    return parts


def _capacity(answer: dict[str, Any]) -> Table:
    """Return the largest concurrency and context, and the smallest parallelism, by memory class."""
    parallel = f"--tp {answer['tensor_parallel']} --pp {answer['pipeline_parallel']}"
    capacity = Table(title=f"the most that fits with {parallel}", title_justify="left")
    for name in ("class GB", "sequences", "tokens", "smallest --tp"):
        capacity.add_column(name, justify="right")
    for row in answer["by_memory_class"]:
        limits = [row["largest_concurrency"], row["largest_context"], row["tensor_parallel"]]
        capacity.add_row(str(row["memory_class_gb"]), *("-" if value is None else str(value) for value in limits))
    return capacity


def _nodes(nodes: list[dict[str, Any]]) -> Table:
    table = Table(title="nodes", title_justify="left")
    for name in ("node", "product", "class GB", "fits", "GPUs free"):
        table.add_column(name, justify="right" if name in ("class GB", "GPUs free") else "left", no_wrap=True)
    for node in sorted(nodes, key=lambda node: (not (node["fits"] and node["enough_gpus"]), node["node"])):
        fits = "memory unknown" if node["fits"] is None else "too little memory" if not node["fits"] else "yes"
        fits = fits if node["enough_gpus"] or fits != "yes" else "too few GPUs"
        table.add_row(node["node"], node["product"] or "?", str(node["memory_class_gb"] or "?"), fits, str(node["free_now"]))
    return table
