"""Feed-forward layers: dense ones, and mixtures of experts with their router and shared experts."""

from __future__ import annotations

from collections.abc import Callable

from extender.workload.checkpoint.config_fields import Fields
from extender.workload.structure import DENSE, ROUTED, ROUTER, SHARED, Weight, linear, vector

FeedForward = Callable[[Fields, int, str], tuple[Weight, ...]]
Width = Callable[[Fields, int], int]
Chosen = Callable[[Fields, int], bool]


def _inner(fields: Fields, _layer: int) -> int:
    return fields.inner


def mlp(place: str, part: str, hidden: int, inner: int, gated: bool = True, bias: bool = False) -> tuple[Weight, ...]:
    """Two matrices, or three with a gate."""
    gate = linear(f"{place}.gate_proj", part, inner, hidden, bias) if gated else ()
    return gate + linear(f"{place}.up_proj", part, inner, hidden, bias) + linear(f"{place}.down_proj", part, hidden, inner, bias)


def dense(*, gated: bool = True, bias: bool | None = False, width: Width = _inner, name: str = "mlp") -> FeedForward:
    """A dense layer; `bias` None: by field `mlp_bias`."""

    def layer(fields: Fields, index: int, prefix: str) -> tuple[Weight, ...]:
        with_bias = fields.flag("mlp_bias") if bias is None else bias
        return mlp(f"{prefix}.{name}", DENSE, fields.hidden, width(fields, index), gated, with_bias)

    return layer


def all_sparse(_fields: Fields, _layer: int) -> bool:
    """Every layer is a mixture."""
    return True


def after_first_dense(fields: Fields, layer: int) -> bool:
    """DeepSeek: the first `first_k_dense_replace` layers are dense, then every `moe_layer_freq`-th is a mixture."""
    kinds = fields.items("mlp_layer_types")
    if kinds:
        return layer >= len(kinds) or kinds[layer] == "sparse"
    frequency = fields.get("moe_layer_freq")
    if isinstance(frequency, list):
        return layer < len(frequency) and bool(frequency[layer])
    step = frequency if isinstance(frequency, int) and frequency > 0 else 1
    return layer >= fields.amount("first_k_dense_replace") and layer % step == 0


def by_sparse_step(fields: Fields, layer: int) -> bool:
    """Qwen: every `decoder_sparse_step`-th layer, apart from `mlp_only_layers`."""
    return layer not in fields.items("mlp_only_layers") and (layer + 1) % fields.count("decoder_sparse_step", 1) == 0


def interleaved(fields: Fields, layer: int) -> bool:
    """Llama 4: `moe_layers`, or every `interleave_moe_layer_step`-th."""
    listed = fields.items("moe_layers")
    return layer in listed if listed else (layer + 1) % fields.count("interleave_moe_layer_step", 1) == 0


def by_period(fields: Fields, layer: int) -> bool:
    """Jamba: every `expert_layer_period`-th layer from `expert_layer_offset`."""
    return layer % fields.count("expert_layer_period", 2) == fields.amount("expert_layer_offset", 1)


def by_interval(fields: Fields, layer: int) -> bool:
    """ERNIE 4.5: from `moe_layer_start_index` to `moe_layer_end_index`, every `moe_layer_interval`-th."""
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
    """Routed experts of equal width on the chosen layers, a dense layer on the others.

    `shared`: fields -> width of all shared experts together. `latent`: a field with the width that experts read and write instead of the
    hidden size (Nemotron 3).
    """
    plain = otherwise or dense()

    def layer(fields: Fields, index: int, prefix: str) -> tuple[Weight, ...]:
        if not fields.amount(experts) or not chosen(fields, index):
            return plain(fields, index, prefix)
        place, hidden, number = f"{prefix}.{name}", fields.hidden, fields.count(experts)
        inner, reach = fields.count(width, fields.inner), fields.amount(latent) if latent else 0
        used = min(number, fields.count("num_experts_per_tok", 2))
        one = mlp(f"{place}.experts.0", ROUTED, reach or hidden, inner, gated, bias)
        found = tuple(Weight(w.module, w.part, w.outputs, w.inputs, number, used, w.linear) for w in one)
        if reach:
            found += linear(f"{place}.fc1_latent_proj", ROUTED, reach, hidden) + linear(f"{place}.fc2_latent_proj", ROUTED, hidden, reach)
        found += linear(f"{place}.gate", ROUTER, number, hidden, router_bias)
        together = shared(fields)
        if together:
            found += mlp(f"{place}.shared_experts", SHARED, hidden, together, gated)
            found += (vector(f"{place}.shared_expert_gate", SHARED, hidden),) if shared_gate else ()
        return found

    return layer


def shared_count(fields: Fields) -> int:
    """DeepSeek: `n_shared_experts` of a routed expert's width each."""
    return fields.amount("num_shared_experts") * fields.count("moe_intermediate_size", fields.inner)


def shared_width(name: str = "shared_expert_intermediate_size") -> Callable[[Fields], int]:
    """The width that a field gives."""
    return lambda fields: fields.amount(name)
