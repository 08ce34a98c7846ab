"""Lower and upper bounds for an unknown architecture, from the sizes that nearly every config.json states. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace as changed

from extender.workload.architecture.architectures import DECODERS
from extender.workload.architecture.sizes import PartSize, Recognised, dtype_bytes, parts, shape_of, text_fields
from extender.workload.architecture.towers import any_tower
from extender.workload.checkpoint.config_fields import Fields, ModelError
from extender.workload.checkpoint.quantization import NONE, Quantization, UnknownQuantization
from extender.workload.model import ModelShape
from extender.workload.structure import OUTPUT_LAYER, PREDICTION, Cache

TEXT_NAMES = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "gemma3": "gemma3_text",
}
"""model_type of a nested text model -> the row of DECODERS with the same architecture."""

_POOLED = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForRewardModel")
_SPARSE_SELDOM = 4
"""At least one of this many layers has experts, if the file states experts."""


def bounded(
    whole: Fields, architecture: str, why: str, quantization: Quantization | UnknownQuantization, kv_bytes: float | None
) -> Recognised:
    """Return lower and upper bounds of a model. The lower bound of the KV cache is 0, as for a model without attention.

    `whole`: the fields of the config.json. `why`: why the architecture is unknown. `kv_bytes`: bytes per number of the KV cache, if stated.
    Raises ModelError if the file does not state layers, width and vocabulary.
    """
    text = text_fields(whole)
    recognised = _over_known_text(whole, text, architecture, why, quantization, kv_bytes)
    if recognised is not None:
        return recognised
    try:
        layers, hidden, vocabulary = text.layers, text.hidden, text.count("vocab_size")
    except ModelError as error:
        remedy = f"Known are {len(DECODERS)} values of model_type; another model can be described as JSON"
        raise ModelError(f"{why}; and no bounds, for {error}. {remedy}") from error
    width, heads = dtype_bytes(whole, text), text.amount("num_attention_heads")
    low, high = _least(text, layers, hidden, vocabulary), _most(whole, text, layers, hidden, vocabulary)
    caches = _caches(text, layers, hidden, heads)
    state = _most_state(text, layers, hidden)
    context = text.amount("max_position_embeddings") or None
    least, most = _bits(quantization, width)
    kv_heads = text.amount("num_key_value_heads", heads) or heads
    size = text.amount("head_dim", hidden // heads if heads else 0)
    base = ModelShape(
        layers=layers,
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        parameters=high,
        embedding_parameters=2 * vocabulary * hidden,
        intermediate_size=_widest(text, hidden),
        vocabulary=vocabulary,
        weight_bytes=most,
        dtype_bytes=width,
        context=context,
        name=whole.word("_name_or_path")[:200] or None,
        caches=caches,
        state_bytes=state,
        published_bytes=int(high * most),
        kv_number_bytes=kv_bytes,
    )
    lower = changed(base, parameters=low, kv_heads=0, caches=(), state_bytes=0, published_bytes=int(low * least), weight_bytes=least)
    method = quantization.method if isinstance(quantization, UnknownQuantization) else str(quantization)
    return Recognised(
        architecture=architecture,
        unknown=why,
        lower=lower,
        upper=base,
        parts=(PartSize("all, upper bound", high, int(high * most)),),
        quantization=method,
    )


def _bits(quantization: Quantization | UnknownQuantization, width: float) -> tuple[float, float]:
    """Return the lowest and highest bytes per weight. `width`: bytes per number of the model's dtype."""
    if isinstance(quantization, UnknownQuantization):
        return quantization.least_bits / 8, width
    return (quantization.scheme.bits / 8, width) if quantization.scheme else (width, width)


def _over_known_text(
    whole: Fields, text: Fields, architecture: str, why: str, quantization: Quantization | UnknownQuantization, kv_bytes: float | None
) -> Recognised | None:
    """Return a model whose text model is known and whose towers or heads are not: only its weights have bounds; None otherwise."""
    kind = text.word("model_type")
    decoder = DECODERS.get(TEXT_NAMES.get(kind, kind))
    if decoder is None or (text is whole and not architecture.endswith(_POOLED)):
        return None
    text = text.with_defaults({**decoder.sizes, **decoder.defaults})
    try:
        structure = decoder.structure(text)
    except ModelError:
        return None
    width = dtype_bytes(whole, text)
    base = shape_of(whole, text, decoder, structure, width, kv_bytes)
    least, most = _bits(quantization, width)
    fixed = sum(weight.parameters for weight in structure.weights if weight.part not in (OUTPUT_LAYER, PREDICTION))
    tower = any_tower(whole, text)
    if not any(
        weight.part == OUTPUT_LAYER for weight in structure.weights
    ):  # some files contain the output layer although the config states that it is tied to the embeddings
        tower += text.count("vocab_size") * text.hidden
    upper = changed(base, parameters=base.parameters + tower, published_bytes=int((base.parameters + tower) * most), weight_bytes=most)
    lower = changed(base, parameters=fixed, published_bytes=int(fixed * least), weight_bytes=least)
    sizes = (
        *parts(structure, NONE, width),
        *((PartSize("towers and output layer, upper bound", tower, int(tower * width)),) if tower else ()),
    )
    method = quantization.method if isinstance(quantization, UnknownQuantization) else str(quantization)
    return Recognised(architecture=architecture, unknown=why, lower=lower, upper=upper, parts=sizes, quantization=method)


def _largest(text: Fields, chosen: Callable[[str], bool], default: int) -> int:
    """Return the largest number in fields whose names are `chosen`, including fields of objects one level deep, or `default`."""
    candidates = [default]
    for name, value in list(text.raw.items())[:2000]:
        nested = value.items() if isinstance(value, dict) else [(name, value)]
        for inner_name, inner_value in list(nested)[:500]:
            numbers = inner_value[:500] if isinstance(inner_value, list) else [inner_value]
            if isinstance(inner_name, str) and chosen(inner_name):
                candidates += [int(n) for n in numbers if isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 24]
    return max(candidates)


def _widest(text: Fields, hidden: int) -> int:
    return _largest(text, lambda name: "intermediate" in name or "ffn" in name or "inner" in name or "mlp_hidden" in name, 4 * hidden)


def _least(text: Fields, layers: int, hidden: int, vocabulary: int) -> int:
    """Return a lower bound of the parameters: a layer can be only attention with one key-value head, or only two matrices."""
    heads = text.amount("num_attention_heads")
    attention = 2 * hidden * min(hidden, heads * text.amount("head_dim", hidden // heads)) if heads else hidden * hidden
    inner = text.get("intermediate_size")
    feed = 2 * hidden * inner if isinstance(inner, int) and not isinstance(inner, bool) and inner > 0 else attention
    experts = text.get("num_experts")
    routed = 0
    if isinstance(experts, int) and not isinstance(experts, bool) and experts > 1:
        width = text.get("moe_intermediate_size") or inner
        narrow = min(hidden, text.amount("moe_latent_size") or hidden)
        routed = (layers // _SPARSE_SELDOM) * experts * 2 * narrow * width if isinstance(width, int) and 0 < width < 1 << 24 else 0
        feed = 0
    return vocabulary * hidden + layers * min(attention, feed or attention) // 2 + routed


def _most(whole: Fields, text: Fields, layers: int, hidden: int, vocabulary: int) -> int:
    """Return an upper bound of the parameters: each layer has the widest attention or recurrent mixer, a gated feed-forward layer and all
    experts."""
    heads = text.amount("num_attention_heads")
    size = _largest(text, lambda name: "head_dim" in name or name == "kv_channels", hidden // heads if heads else 0)
    mixer = 8 * hidden * max(2 * hidden, heads * size)
    inner = _widest(text, hidden)
    experts = _largest(text, lambda name: "expert" in name and ("num" in name or name.startswith("n_")) and "_per_" not in name, 0)
    width = _largest(
        text, lambda name: ("expert" in name or "moe" in name) and ("intermediate" in name or "ffn" in name or "hidden" in name), 0
    )
    sparse = experts * hidden * (3 * (width or inner) + 1)
    extra = text.amount("vocab_size_per_layer_input") * text.amount("hidden_size_per_layer_input")
    rows = layers + text.amount("num_nextn_predict_layers") + text.amount("mtp_num_hidden_layers") + 1
    return 2 * vocabulary * hidden + rows * (mixer + 3 * hidden * inner + sparse + extra) + any_tower(whole, text)


def _caches(text: Fields, layers: int, hidden: int, heads: int) -> tuple[Cache, ...]:
    if not heads:
        return ()
    kv_heads = max(_largest(text, lambda name: "kv_heads" in name or "key_value_heads" in name, 0), 0) or heads
    size = _largest(text, lambda name: "head_dim" in name or name == "kv_channels", hidden // heads)
    return (Cache("unknown", layers, 2 * kv_heads * size, kv_heads),)


def _most_state(text: Fields, layers: int, hidden: int) -> int:
    """Return an upper bound of the state in bytes: 32-bit numbers, twice the width times the largest stated state, or a square per head."""
    state = _largest(text, lambda name: ("state" in name and "size" in name) or name.endswith("d_state"), 0)
    linear = _largest(text, lambda name: "linear" in name and "head_dim" in name, 0)
    heads = text.amount("num_attention_heads")
    square = heads * text.amount("head_dim", hidden // heads if heads else 0) ** 2
    return layers * max(2 * hidden * 2 * max(state, linear), square) * 4
