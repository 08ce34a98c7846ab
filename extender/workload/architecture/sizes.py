"""Sizes of a model with a known structure: weights by part with its quantisation, KV cache, state. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from extender.workload.architecture.families import Decoder
from extender.workload.checkpoint.config_fields import Fields
from extender.workload.checkpoint.quantization import NONE, Quantization, UnknownQuantization
from extender.workload.checkpoint.schemes import DTYPE_BYTES, MXFP4
from extender.workload.model import ModelShape
from extender.workload.structure import EMBEDDINGS, OUTPUT_LAYER, PREDICTION, Structure


@dataclass(frozen=True, slots=True)
class PartSize:
    """One part of the model."""

    part: str
    parameters: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Recognised:
    """A model as far as it is known: exact sizes, or lower and upper bounds."""

    architecture: str
    """The name in the file."""
    unknown: str | None
    """Why only bounds are known; None: the architecture and the quantisation are known."""
    lower: ModelShape
    upper: ModelShape
    """Equal to `lower` if nothing is unknown."""
    parts: tuple[PartSize, ...]
    """Weights by part; with bounds, of the upper bound."""
    quantization: str
    """The quantisation, for people."""


def text_fields(whole: Fields) -> Fields:
    """Return the fields of the text model: of a nested object, else of the whole file."""
    for name in ("text_config", "llm_config", "language_config"):
        nested = whole.raw.get(name)
        if isinstance(nested, Mapping):
            tied = whole.raw.get("tie_word_embeddings")
            return Fields(nested if tied is None else {**nested, "tie_word_embeddings": tied})
    return whole


def dtype_bytes(whole: Fields, text: Fields) -> float:
    """Return the bytes per number of the model's dtype; 2 (bfloat16) if the file does not state it."""
    for fields in (whole, text):
        dtype = fields.word("torch_dtype").removeprefix("torch.")
        if dtype in DTYPE_BYTES:
            return DTYPE_BYTES[dtype]
    return 2.0


def sized(
    *,
    whole: Fields,
    text: Fields,
    decoder: Decoder,
    structure: Structure,
    architecture: str,
    quantization: Quantization | UnknownQuantization,
    kv_bytes: float | None,
) -> Recognised:
    """Return the sizes of a known structure; bounds if its quantisation is unknown.

    `whole`: the fields of the config.json. `text`: those of the text model. `kv_bytes`: bytes per number of the KV cache, if stated.
    """
    width = dtype_bytes(whole, text)
    base = shape_of(whole, text, decoder, structure, width, kv_bytes)
    if isinstance(quantization, UnknownQuantization):
        upper = _sized(base, structure, NONE, width)
        least = int(structure.parameters * quantization.least_bits / 8)
        lower = replace(upper, published_bytes=least, weight_bytes=quantization.least_bits / 8, unloaded_bytes=0)
        why = f"unknown quantisation method: {quantization.method}"
        return Recognised(architecture, why, lower, upper, parts(structure, NONE, width), quantization.method)
    shape = _sized(base, structure, quantization, width)
    return Recognised(architecture, None, shape, shape, parts(structure, quantization, width), str(quantization))


def parts(structure: Structure, quantization: Quantization, width: float) -> tuple[PartSize, ...]:
    """Return the weights by part, largest first. `width`: bytes per number that is not quantised."""
    totals: dict[str, tuple[int, float]] = {}
    for weight in structure.weights:
        count, size = totals.get(weight.part, (0, 0.0))
        totals[weight.part] = (count + weight.parameters, size + quantization.size(weight, width))
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    return tuple(PartSize(part, count, int(size)) for part, (count, size) in ordered if count)


def _sized(base: ModelShape, structure: Structure, quantization: Quantization, width: float) -> ModelShape:
    sizes = {part.part: part.weight_bytes for part in parts(structure, quantization, width)}
    total, scheme = sum(sizes.values()), quantization.scheme
    padded = scheme is MXFP4  # engines pad the experts of gpt-oss, so that any width can be divided
    unit = 1 if scheme is None or padded else max(scheme.rows, scheme.group, 1)
    return replace(
        base, published_bytes=total, unloaded_bytes=sizes.get(PREDICTION, 0), weight_bytes=total / max(1, base.parameters), width_unit=unit
    )


def shape_of(whole: Fields, text: Fields, decoder: Decoder, structure: Structure, width: float, kv_bytes: float | None) -> ModelShape:
    """Return the shape of a known structure before quantisation. `width`: bytes per number; `kv_bytes`: of the KV cache, if stated."""
    state_width = DTYPE_BYTES.get(text.word("mamba_ssm_cache_dtype") or text.word("mamba_ssm_dtype"), width)
    heads = 0 if decoder.recurrent else text.heads
    total = structure.parameters
    active = sum(weight.active_parameters for weight in structure.weights if weight.part != PREDICTION)
    loaded = sum(weight.parameters for weight in structure.weights if weight.part != PREDICTION)
    widths = {text.inner} if not decoder.recurrent else set()
    widths |= {text.count(name) for name in ("moe_intermediate_size",) if text.has(name) and isinstance(text.get(name), int)}
    return ModelShape(
        layers=text.layers,
        hidden_size=text.hidden,
        attention_heads=heads,
        kv_heads=text.kv_heads if heads else 0,
        head_size=text.head_size if heads else 0,
        parameters=total,
        active_parameters=active if active != loaded else None,
        embedding_parameters=sum(weight.parameters for weight in structure.weights if weight.part in (EMBEDDINGS, OUTPUT_LAYER)),
        intermediate_size=0 if decoder.recurrent else text.inner,
        vocabulary=text.count("vocab_size"),
        weight_bytes=width,
        dtype_bytes=width,
        context=text.amount("max_position_embeddings") or None,
        name=whole.word("_name_or_path")[:200] or None,
        caches=structure.caches,
        state_numbers=sum(state.layers * state.numbers for state in structure.states),
        state_bytes=int(sum(state.layers * state.wide_numbers * state_width for state in structure.states)),
        kv_number_bytes=kv_bytes,
        widths=tuple(sorted(widths)),
    )
