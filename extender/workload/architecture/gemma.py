"""Gemma 4: layers with full attention have another head size, and the last layers can reuse the cache of earlier layers. Pure.

Source: Hugging Face transformers 5, `modeling_gemma4.py`.
"""

from __future__ import annotations

from extender.workload.architecture.attention import grouped
from extender.workload.architecture.families import embedding, norms
from extender.workload.architecture.feed_forward import dense, mixture
from extender.workload.architecture.towers import Encoder
from extender.workload.checkpoint.config_fields import Fields, ModelError
from extender.workload.structure import ATTENTION, EMBEDDINGS, NORMS, VISION, Cache, Layer, Weight, linear, vector

GEMMA4 = {
    "vocab_size": 262144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 512,
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
}
"""Defaults of `Gemma4TextConfig`, for fields that a file omits."""
_GLOBAL_HEAD_SIZE = 512
_PATTERN = 6


def _attends_to_all(fields: Fields, layer: int) -> bool:
    kinds = fields.items("layer_types")
    last = layer == fields.layers - 1
    return last or (kinds[layer] == "full_attention" if layer < len(kinds) else (layer + 1) % _PATTERN == 0)


def _heads(fields: Fields, layer: int) -> tuple[int, int, int]:
    if not _attends_to_all(fields, layer):
        return fields.heads, fields.kv_heads, fields.head_size
    kv_heads = fields.count("num_global_key_value_heads", fields.kv_heads) if fields.flag("attention_k_eq_v") else fields.kv_heads
    return fields.heads, kv_heads, fields.count("global_head_dim", _GLOBAL_HEAD_SIZE)


def _window(fields: Fields, layer: int) -> Cache | None:
    return None if _attends_to_all(fields, layer) else Cache("sliding", 1, 0, window=fields.count("sliding_window"))


def block(fields: Fields, index: int, prefix: str) -> list[Layer]:
    """One decoder layer; with `enable_moe_block` it has experts in addition to the dense layer."""
    base = grouped(qk_norm="head", heads=_heads, window=_window)(fields, index, prefix)
    shared = index >= fields.layers - fields.amount("num_kv_shared_layers")
    dropped = set[str]()
    if shared:
        dropped = {"k_proj", "v_proj"}
    elif fields.flag("attention_k_eq_v") and _attends_to_all(fields, index):
        dropped = {"v_proj"}
    weights = tuple(weight for weight in base.weights if weight.module.rpartition(".")[2] not in dropped)
    layers = [Layer(weights, None if shared else base.cache)]
    wide = 2 if shared and fields.flag("use_double_wide_mlp") else 1
    layers.append(Layer(dense(width=lambda _fields, _layer: wide * fields.inner)(fields, index, prefix)))
    if fields.flag("enable_moe_block"):
        named = Fields({**fields.raw, "num_experts_per_tok": fields.get("top_k_experts")})
        layers.append(Layer(mixture()(named, index, prefix)))
        layers.append(norms(prefix, fields.hidden, 4, False))
    narrow = fields.amount("hidden_size_per_layer_input")
    if narrow:
        gates = linear(f"{prefix}.per_layer_input_gate", ATTENTION, narrow, fields.hidden)
        gates += linear(f"{prefix}.per_layer_projection", ATTENTION, fields.hidden, narrow)
        layers.append(Layer((*gates, vector(f"{prefix}.post_per_layer_input_norm", NORMS, fields.hidden))))
    return [*layers, norms(prefix, fields.hidden, 4, False)]


def per_layer_tables(fields: Fields) -> tuple[Weight, ...]:
    """Return the embeddings per layer and their projection; () if `hidden_size_per_layer_input` is 0."""
    narrow = fields.amount("hidden_size_per_layer_input")
    if not narrow:
        return ()
    width = fields.layers * narrow
    table = embedding("model.embed_tokens_per_layer", fields.count("vocab_size_per_layer_input"), width)
    projection = linear("model.per_layer_model_projection", EMBEDDINGS, width, fields.hidden)
    return (table, *projection, vector("model.per_layer_projection_norm", NORMS, narrow))


def tower(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """Return the vision tower and its projection. Raises ModelError for a model with an audio tower."""
    if whole.part("audio_config") is not None:
        raise ModelError("its audio_config is not known")
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "patch_size": 16, "position_embedding_size": 10240}
    vision = whole.part("vision_config", sizes) or Fields({}, sizes)
    hidden, heads = vision.hidden, 2 * vision.count("head_dim", 64)
    norm = 2 * hidden + heads
    encoder = Encoder(
        "model.vision_tower.encoder.layers",
        hidden,
        vision.inner,
        vision.layers,
        gated=True,
        attention_bias=False,
        mlp_bias=False,
        norm_bias=False,
        more_per_layer=norm,
    )
    module, positions = "model.vision_tower.patch_embedder", 2 * vision.count("position_embedding_size")
    stem = Weight(f"{module}.input_proj", VISION, hidden, 3 * vision.count("patch_size") ** 2, linear=False)
    table = Weight(f"{module}.position_embedding_table", VISION, positions, hidden, linear=False)
    return (stem, table, *encoder.weights(), *linear("model.embed_vision.embedding_projection", VISION, text.hidden, hidden))
