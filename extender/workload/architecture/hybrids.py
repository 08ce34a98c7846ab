"""HYBRIDS: architectures with layers other than attention (state spaces, linear attention, convolutions), by `model_type`. Pure."""

from __future__ import annotations

from dataclasses import replace

from extender.workload.architecture.attention import grouped, latent
from extender.workload.architecture.families import Block, Decoder, as_mixer, hybrid, norms, predicted
from extender.workload.architecture.feed_forward import after_first_dense, by_period, dense, mixture, shared_count, shared_width
from extender.workload.architecture.recurrent import delta_net, kimi_delta, lightning, mamba, mamba2, short_convolution
from extender.workload.checkpoint.config_fields import Fields, ModelError
from extender.workload.structure import PREDICTION, Layer, Weight, assigned, vector

_ATTENTION_NAMES = ("attention", "full_attention", "attn")
_GATED_ATTENTION = grouped(qk_norm="head", gated=True)


def _jamba(fields: Fields, layer: int) -> str:
    if fields.items("layer_types"):
        return _spaces(fields, layer)
    attends = layer % fields.count("attn_layer_period", 8) == fields.amount("attn_layer_offset", 4)
    return "attention" if attends else "mamba"


def _nemotron(fields: Fields, layer: int) -> str:
    pattern, listed = fields.word("hybrid_override_pattern"), fields.items("layer_types")
    if listed:
        return str(listed[layer]) if layer < len(listed) else "mamba"
    if layer >= len(pattern):
        raise ModelError(f"hybrid_override_pattern has {len(pattern)} layers, fewer than num_hidden_layers {fields.layers}")
    return {"M": "mamba", "-": "mlp", "*": "attention", "E": "moe"}.get(pattern[layer], pattern[layer])


def _listed(fields: Fields, layer: int) -> str:
    listed = fields.items("layer_types")
    if layer >= len(listed):
        raise ModelError(f"layer_types has {len(listed)} items, fewer than num_hidden_layers {fields.layers}")
    return "attention" if listed[layer] in _ATTENTION_NAMES else str(listed[layer])


def _spaces(fields: Fields, layer: int) -> str:
    """The kind by `layer_types`; transformers 5 also writes `linear_attention` for a state space."""
    kind = _listed(fields, layer)
    return "mamba" if kind == "linear_attention" else kind


def _bamba(fields: Fields, layer: int) -> str:
    if fields.items("layer_types"):
        return _spaces(fields, layer)
    return "attention" if layer in fields.items("attn_layer_indices") else "mamba"


def _qwen(fields: Fields, layer: int) -> str:
    if fields.items("layer_types") and layer < len(fields.items("layer_types")):
        return _listed(fields, layer)
    prediction = layer >= fields.layers
    return "attention" if prediction or (layer + 1) % fields.count("full_attention_interval", 4) == 0 else "linear_attention"


def _kimi(fields: Fields, layer: int) -> str:
    if fields.items("layer_types"):
        return "attention" if _listed(fields, layer) == "attention" else "kda"
    nested = fields.part("linear_attn_config") or Fields({})
    return "kda" if layer + 1 in nested.items("kda_layers") else "attention"


def _minimax(fields: Fields, layer: int) -> str:
    kinds = fields.items("attn_type_list")
    if kinds:
        return "attention" if layer < len(kinds) and kinds[layer] == 1 else "linear_attention"
    return _listed(fields, layer)


def _lfm2(fields: Fields, layer: int) -> str:
    if fields.items("layer_types"):
        return _listed(fields, layer)
    return "attention" if layer in fields.items("full_attn_idxs") else "conv"


def _lfm2_inner(fields: Fields, _layer: int) -> int:
    inner = fields.count("block_ff_dim", fields.inner)
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return inner
    several = fields.count("block_multiple_of", 256)
    return -(-int(fields.number("block_ffn_dim_multiplier", 1) * int(2 * inner / 3)) // several) * several


def _both(fields: Fields, index: int, prefix: str) -> list[Layer]:
    """Falcon-H1: each layer has attention and a state space in parallel."""
    space = mamba2(inner="mamba_d_ssm", gated_norm="mamba_rms_norm")
    feed = Layer(dense(bias=None, name="feed_forward")(fields, index, prefix))
    return [grouped()(fields, index, prefix), space(fields, index, prefix), feed, norms(prefix, fields.hidden, 2, False)]


def _pure_mamba2(fields: Fields, index: int, prefix: str) -> list[Layer]:
    """Mamba 2: the fields of its heads have the names of attention heads."""
    named = {**fields.raw, "mamba_n_heads": fields.get("num_attention_heads"), "mamba_d_head": fields.get("head_dim")}
    return [mamba2(name="mixer", bias="use_bias")(Fields(named), index, prefix), norms(prefix, fields.hidden, 1, False)]


def _alone(count: int) -> Block:
    return hybrid(lambda _fields, _layer: "mamba", {"mamba": mamba(name="mixer")}, None, count)


_NEMOTRON_MIXERS = {
    "mamba": mamba2(name="mixer"),
    "attention": grouped(name="mixer"),
    "mlp": as_mixer(dense(gated=False, bias=None, name="mixer")),
    "moe": as_mixer(
        mixture(gated=False, shared=shared_width("moe_shared_expert_intermediate_size"), latent="moe_latent_size", name="mixer")
    ),
}
_NEMOTRON_MIXERS |= {"linear_attention": _NEMOTRON_MIXERS["mamba"], "full_attention": _NEMOTRON_MIXERS["attention"]}


def _nemotron_prediction(fields: Fields, _decoder: Decoder) -> tuple[Weight, ...]:
    """Nemotron 3 Super: each prediction has the layers in `mtp_hybrid_override_pattern` or `mtp_layers_block_type`."""
    letters = {"M": "mamba", "-": "mlp", "*": "attention", "E": "moe"}
    pattern = fields.word("mtp_hybrid_override_pattern")
    kinds = [letters.get(letter, letter) for letter in pattern] or list(fields.items("mtp_layers_block_type")) or ["attention", "moe"]
    weights: list[Weight] = []
    for extra in range(min(64, fields.amount("num_nextn_predict_layers"))):
        for index, kind in enumerate(kinds[:64]):
            if kind not in _NEMOTRON_MIXERS:
                raise ModelError(f"multi-token prediction has a layer of kind {str(kind)[:60]!r}")
            prefix = f"mtp.layers.{extra * len(kinds) + index}"
            weights += [*_NEMOTRON_MIXERS[kind](fields, index, prefix).weights, vector(f"{prefix}.norm", PREDICTION, fields.hidden)]
        weights.append(Weight(f"mtp.{extra}.eh_proj", PREDICTION, fields.hidden, 2 * fields.hidden, linear=False))
    return assigned(weights, PREDICTION)


_GRANITE_FEED = mixture(
    otherwise=dense(width=lambda fields, _layer: fields.count("shared_intermediate_size", 1024), name="shared_mlp"),
    width="intermediate_size",
    shared=shared_width("shared_intermediate_size"),
    name="block_sparse_moe",
)
_QWEN_MIXERS = {"attention": _GATED_ATTENTION, "linear_attention": delta_net}
_QWEN_MIXTURE = mixture(shared=shared_width(), shared_gate=True)
_JAMBA_FEED = mixture(chosen=by_period, width="intermediate_size", otherwise=dense(name="feed_forward"), name="feed_forward")
_LFM2_MIXERS = {"attention": grouped(bias=False, qk_norm="head"), "conv": short_convolution}
_KIMI_FEED = mixture(chosen=after_first_dense, shared=shared_count, name="block_sparse_moe")
_MINIMAX_MIXERS = {"attention": grouped(bias=False), "linear_attention": lightning}

_QWEN3_NEXT = Decoder(
    hybrid(_qwen, _QWEN_MIXERS, _QWEN_MIXTURE),
    prediction=predicted("mtp_num_hidden_layers", default=1, place="mtp"),
    defaults={"head_dim": 256},
)

HYBRIDS: dict[str, Decoder] = {
    "jamba": Decoder(hybrid(_jamba, {"attention": grouped(bias=False), "mamba": mamba(norms=True)}, _JAMBA_FEED)),
    "nemotron_h": Decoder(hybrid(_nemotron, _NEMOTRON_MIXERS, None, 1), prefix="backbone.layers", prediction=_nemotron_prediction),
    "granitemoehybrid": Decoder(hybrid(_spaces, {"attention": grouped(bias=None), "mamba": mamba2()}, _GRANITE_FEED), tied=True),
    "bamba": Decoder(hybrid(_bamba, {"attention": grouped(bias=None), "mamba": mamba2()}, dense(name="feed_forward"))),
    "falcon_h1": Decoder(_both),
    "mamba": Decoder(_alone(1), tied=True, prefix="backbone.layers", recurrent=True),
    "falcon_mamba": Decoder(_alone(1), tied=True, prefix="backbone.layers", recurrent=True),
    "mamba2": Decoder(_pure_mamba2, prefix="backbone.layers", recurrent=True, defaults={"mamba_n_groups": 8}),
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_5_moe_text": replace(_QWEN3_NEXT, prediction=predicted("mtp_num_hidden_layers", place="mtp")),
    "qwen3_5_text": replace(
        _QWEN3_NEXT, block=hybrid(_qwen, _QWEN_MIXERS, dense()), prediction=predicted("mtp_num_hidden_layers", place="mtp")
    ),
    "kimi_linear": Decoder(hybrid(_kimi, {"attention": latent, "kda": kimi_delta}, _KIMI_FEED)),
    "minimax": Decoder(hybrid(_minimax, _MINIMAX_MIXERS, mixture(width="intermediate_size", name="block_sparse_moe"))),
    "minimax_text_01": Decoder(hybrid(_minimax, _MINIMAX_MIXERS, mixture(width="intermediate_size", name="block_sparse_moe"))),
    "lfm2": Decoder(hybrid(_lfm2, _LFM2_MIXERS, dense(width=_lfm2_inner, name="feed_forward")), tied=True),
    "lfm2_moe": Decoder(hybrid(_lfm2, _LFM2_MIXERS, mixture(chosen=after_first_dense, name="feed_forward")), tied=True),
}
"""model_type -> decoder."""
