"""config.json -> the recognised model: exact sizes for a known architecture, bounds for an unknown one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from extender.workload.architecture import gemma, towers
from extender.workload.architecture.architectures import DECODERS
from extender.workload.architecture.bounds import TEXT_NAMES, bounded
from extender.workload.architecture.families import Decoder
from extender.workload.architecture.sizes import Recognised, sized, text_fields
from extender.workload.checkpoint.config_fields import Fields, ModelError
from extender.workload.checkpoint.quantization import Quantization, published
from extender.workload.structure import ROUTED, Structure

HEADS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForImageTextToText", "LMHeadCustomModel", "ForVision2Seq")
"""Endings of `architectures[0]` of models with a decoder and an output layer."""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A multimodal architecture: its tower, and the model_type of its text model if the file does not state it."""

    text: str
    tower: towers.Tower


WRAPPERS: dict[str, Wrapper] = {
    "llava": Wrapper("llama", towers.llava),
    "llava_next": Wrapper("llama", towers.llava),
    "llava_onevision": Wrapper("qwen2", towers.llava),
    "mistral3": Wrapper("mistral", towers.mistral3),
    "paligemma": Wrapper("gemma", towers.one_projection()),
    "gemma3": Wrapper("gemma3_text", towers.one_projection(bias=False)),
    "gemma4": Wrapper("gemma4_text", gemma.tower),
    "idefics3": Wrapper("llama", towers.one_projection("scale_factor", bias=False)),
    "smolvlm": Wrapper("llama", towers.one_projection("scale_factor", bias=False)),
    "qwen2_vl": Wrapper("qwen2", towers.qwen2_vl),
    "qwen2_5_vl": Wrapper("qwen2", towers.qwen2_vl),
    "qwen3_vl": Wrapper("qwen3", towers.qwen3_vl),
    "qwen3_vl_moe": Wrapper("qwen3_moe", towers.qwen3_vl),
    "qwen3_5": Wrapper("qwen3_5_text", towers.qwen3_vl),
    "qwen3_5_moe": Wrapper("qwen3_5_moe_text", towers.qwen3_vl),
    "mllama": Wrapper("mllama_text_model", towers.mllama),
    "llama4": Wrapper("llama4_text", towers.llama4),
    "internvl_chat": Wrapper("qwen2", towers.internvl),
    "internvl": Wrapper("qwen2", towers.internvl),
}
"""model_type -> tower and text model."""


def from_config(config: Mapping[str, Any], override: Quantization | None = None) -> Recognised:
    """Return the model of a Hugging Face `config.json`. `override`: replaces the quantisation in the file.

    Raises ModelError that names a missing or invalid field, also a field that bounds need.
    """
    whole = Fields(config)
    architecture, named = _name(whole), published(whole)
    quantization = override or named
    kv_bytes = named.kv_bytes
    known = _known(whole, architecture)
    if isinstance(known, str):
        return bounded(whole, architecture, known, quantization, kv_bytes)
    text, decoder, structure = known
    return sized(
        whole=whole,
        text=text,
        decoder=decoder,
        structure=structure,
        architecture=architecture,
        quantization=quantization,
        kv_bytes=kv_bytes,
    )


def _name(whole: Fields) -> str:
    listed = whole.items("architectures")
    first = listed[0] if listed and isinstance(listed[0], str) else ""
    return (first or whole.word("model_type"))[:100] or "not named"


def _known(whole: Fields, architecture: str) -> tuple[Fields, Decoder, Structure] | str:
    """Return the text model's fields, its decoder and the whole structure; or why the architecture is unknown, as text."""
    kind = whole.word("model_type")
    if architecture != kind and not architecture.endswith(HEADS) and architecture != "not named":
        return f"unknown architecture: {architecture}"
    wrapper = WRAPPERS.get(kind)
    text = text_fields(whole)
    if wrapper is None:
        decoder = DECODERS.get(kind)
        if decoder is None or any(whole.has(name) for name in towers.TOWER_FIELDS):
            return f"unknown architecture: {architecture}" + (f" (model_type {kind[:60]})" if kind and kind != architecture else "")
        text = whole.with_defaults(decoder.defaults)
        return _consistent(text, decoder, decoder.structure(text), architecture)
    text_kind = text.word("model_type") if text is not whole else wrapper.text
    decoder = DECODERS.get(TEXT_NAMES.get(text_kind, text_kind) or wrapper.text)
    if decoder is None:
        return f"unknown architecture: {architecture} over {text_kind[:60]}"
    text = text.with_defaults({**decoder.sizes, **decoder.defaults})
    if whole.part("vision_config") is None:
        return _consistent(text, decoder, decoder.structure(text), architecture)
    base = decoder.structure(text)
    try:
        tower = wrapper.tower(whole, text)
    except ModelError as error:
        return f"unknown architecture: {architecture}: {error}"
    return _consistent(text, decoder, replace(base, weights=base.weights + tower), architecture)


def _consistent(text: Fields, decoder: Decoder, structure: Structure, architecture: str) -> tuple[Fields, Decoder, Structure] | str:
    """Return the first three arguments, or why the model is unknown: the file states parts that the architecture does not have."""
    parts, caches = {weight.part for weight in structure.weights}, {cache.kind for cache in structure.caches}
    if text.has("num_experts") and text.get("num_experts") not in (0, 1, [1], [0]) and ROUTED not in parts:
        return f"unknown architecture: {architecture} with experts"
    if text.has("kv_lora_rank") and caches.isdisjoint({"latent"}):
        return f"unknown architecture: {architecture} with latent attention"
    if any(text.has(name) for name in _STATE_FIELDS) and not structure.states:
        return f"unknown architecture: {architecture} with recurrent layers"
    return text, decoder, structure


_STATE_FIELDS = ("mamba_d_state", "linear_attn_config", "linear_num_key_heads", "conv_L_cache")
