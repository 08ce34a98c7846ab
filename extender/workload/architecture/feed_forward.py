"""Feed-forward layers: dense layers, and mixtures of experts with router and shared experts. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from extender.workload.checkpoint.config_fields import Fields
from extender.workload.structure import DENSE, ROUTED, ROUTER, SHARED, Weight, linear, vector

FeedForward = Callable[[Fields, int, str], tuple[Weight, ...]]
"""(fields, layer, the layer's module name) -> its weights."""
Width = Callable[[Fields, int], int]
"""(fields, layer) -> inner width."""
Chosen = Callable[[Fields, int], bool]
"""(fields, layer) -> whether the layer is a mixture of experts."""


def _inner(fields: Fields, _layer: int) -> int:
    return fields.inner


def mlp(module: str, part: str, hidden: int, inner: int, gated: bool = True, bias: bool = False) -> tuple[Weight, ...]:
    """Return the two matrices of a feed-forward layer, or three with a gate. `module`: the layer's module name."""
    gate = linear(f"{module}.gate_proj", part, inner, hidden, bias) if gated else ()
    return gate + linear(f"{module}.up_proj", part, inner, hidden, bias) + linear(f"{module}.down_proj", part, hidden, inner, bias)


def dense(*, gated: bool = True, bias: bool | None = False, width: Width = _inner, name: str = "mlp") -> FeedForward:
    """A dense layer. `bias`: None means by the field `mlp_bias`. `name`: the module's name in the layer."""

    def layer(fields: Fields, index: int, prefix: str) -> tuple[Weight, ...]:
        with_bias = fields.flag("mlp_bias") if bias is None else bias
        return mlp(f"{prefix}.{name}", DENSE, fields.hidden, width(fields, index), gated, with_bias)

    return layer


def all_sparse(_fields: Fields, _layer: int) -> bool:
    """Every layer is a mixture of experts."""
    return True


def after_first_dense(fields: Fields, layer: int) -> bool:
    """DeepSeek: the first `first_k_dense_replace` layers are dense, of the others every `moe_layer_freq`-th is a mixture."""
    kinds = fields.items("mlp_layer_types")
    if kinds:
        return layer >= len(kinds) or kinds[layer] == "sparse"
    frequency = fields.get("moe_layer_freq")
    if isinstance(frequency, list):
        return layer < len(frequency) and bool(frequency[layer])
    step = frequency if isinstance(frequency, int) and frequency > 0 else 1
    return layer >= fields.amount("first_k_dense_replace") and layer % step == 0


def by_sparse_step(fields: Fields, layer: int) -> bool:
    """Qwen: every `decoder_sparse_step`-th layer is a mixture, except `mlp_only_layers`."""
    return layer not in fields.items("mlp_only_layers") and (layer + 1) % fields.count("decoder_sparse_step", 1) == 0


def interleaved(fields: Fields, layer: int) -> bool:
    """Llama 4: the layers in `moe_layers` are mixtures, or every `interleave_moe_layer_step`-th layer."""
    listed = fields.items("moe_layers")
    return layer in listed if listed else (layer + 1) % fields.count("interleave_moe_layer_step", 1) == 0


def by_period(fields: Fields, layer: int) -> bool:
    """Jamba: every `expert_layer_period`-th layer from `expert_layer_offset` is a mixture."""
    return layer % fields.count("expert_layer_period", 2) == fields.amount("expert_layer_offset", 1)


def by_interval(fields: Fields, layer: int) -> bool:
    """ERNIE 4.5: every `moe_layer_interval`-th layer from `moe_layer_start_index` to `moe_layer_end_index` is a mixture."""
    end = fields.get("moe_layer_end_index")
    last = end if isinstance(end, int) and end >= 0 else fields.layers - 1
    within = fields.amount("moe_layer_start_index", 1) <= layer <= last
    return within and (layer + 1) % fields.count("moe_layer_interval", 1) == 0


def mixture(
    *,
    chosen: Chosen = all_sparse,
    otherwise: FeedForward | None = None,
    experts: str = "num_experts",
    width: str = "moe_intermediate_size",
    shared: Callable[[Fields], int] = lambda _fields: 0,
    shared_gate: bool = False,
    gated: bool = True,
    bias: bool = False,
    router_bias: bool = False,
    latent: str = "",
    name: str = "mlp",
) -> FeedForward:
    """Routed experts of equal width in the chosen layers, a dense layer (`otherwise`) in the others.

    `experts`, `width`: the fields with the number and width of the experts. `shared`: fields -> width of all shared experts together.
    `latent`: a field with the width of the experts' inputs and outputs, if it is not the hidden size (Nemotron 3).
    """
    dense_layer = otherwise or dense()

    def layer(fields: Fields, index: int, prefix: str) -> tuple[Weight, ...]:
        if not fields.amount(experts) or not chosen(fields, index):
            return dense_layer(fields, index, prefix)
        module, hidden, number = f"{prefix}.{name}", fields.hidden, fields.count(experts)
        inner, outer = fields.count(width, fields.inner), fields.amount(latent) if latent else 0
        used = min(number, fields.count("num_experts_per_tok", 2))
        first_expert = mlp(f"{module}.experts.0", ROUTED, outer or hidden, inner, gated, bias)
        weights = tuple(replace(weight, count=number, used=used) for weight in first_expert)
        if outer:
            weights += linear(f"{module}.fc1_latent_proj", ROUTED, outer, hidden)
            weights += linear(f"{module}.fc2_latent_proj", ROUTED, hidden, outer)
        weights += linear(f"{module}.gate", ROUTER, number, hidden, router_bias)
        shared_inner = shared(fields)
        if shared_inner:
            weights += mlp(f"{module}.shared_experts", SHARED, hidden, shared_inner, gated)
            weights += (vector(f"{module}.shared_expert_gate", SHARED, hidden),) if shared_gate else ()
        return weights

    return layer


def shared_count(fields: Fields) -> int:
    """DeepSeek: `n_shared_experts` shared experts, each with the width of a routed expert."""
    return fields.amount("num_shared_experts") * fields.count("moe_intermediate_size", fields.inner)


def shared_width(name: str = "shared_expert_intermediate_size") -> Callable[[Fields], int]:
    """The width of all shared experts is the field `name`."""
    return lambda fields: fields.amount(name)
