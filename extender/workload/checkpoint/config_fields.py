"""A config.json's fields under one name each, with the defaults of the architecture; every number checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_LAYERS = 2048
"""Layers of a model; a larger number is an error in the file."""
_LARGEST = 1 << 40
_LONGEST_LIST = 8192

_ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "multi_query_group_num", "n_head_kv", "num_attention_groups"),
    "head_dim": ("kv_channels", "attention_head_dim"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "inner_dim", "mlp_hidden_size", "feed_forward_hidden_size"),
    "vocab_size": ("padded_vocab_size",),
    "max_position_embeddings": ("n_positions", "seq_length", "max_seq_len", "max_sequence_length", "model_max_length"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("moe_topk", "moe_k", "num_experts_per_token", "moe_top_k", "experts_per_token", "num_selected_experts"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_hidden_size"),
    "num_shared_experts": ("n_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "layer_types": ("layers_block_type", "layer_block_types"),
    "first_k_dense_replace": ("num_dense_layers",),
    "mamba_d_state": ("state_size", "ssm_state_size"),
    "mamba_d_conv": ("conv_kernel", "d_conv", "conv_kernel_size"),
    "mamba_n_heads": ("mamba_num_heads", "n_mamba_heads"),
    "mamba_d_head": ("mamba_head_dim", "mamba_headdim"),
    "mamba_n_groups": ("n_groups", "mamba_ngroups"),
    "mamba_expand": ("expand",),
    "torch_dtype": ("dtype",),
}
"""The name used here -> other names of the same field in published files."""


class ModelError(ValueError):
    """A description that says too little or contradicts itself; names the field."""


def _said(value: Any) -> str:
    """A value for an error's text, in a few characters; a structure or an absurd number by its type alone."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value) if isinstance(value, int | float) and abs(value) < 1 << 64 else type(value).__name__


def _single(value: Any) -> Any:
    """A list of equal items as one of them: some files repeat a size per layer or per direction."""
    if isinstance(value, list) and value and all(item == value[0] for item in value[:_LONGEST_LIST]):
        return value[0]
    return value


class Fields:
    """The fields of one object of a config.json; a null is the same as a missing field."""

    def __init__(self, raw: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self.raw = raw
        self._defaults = defaults or {}

    def get(self, name: str) -> Any:
        """The field by its name, an alias of it, or the architecture's default; None where none of them is there."""
        for known in (name, *_ALIASES.get(name, ())):
            found = self.raw.get(known)
            if found is not None:
                return found
        return self._defaults.get(name)

    def count(self, name: str, default: int | None = None) -> int:
        """A positive whole number. Raises ModelError where the field is missing without a default, or makes no sense."""
        value = self.get(name)
        if value is None:
            if default is None:
                raise ModelError(f"{name} is missing")
            return default
        value = _single(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST:
            raise ModelError(f"{name} {_said(value)} is not a positive whole number")
        return value

    def amount(self, name: str, default: int = 0) -> int:
        """A whole number that may be zero; a list of equal numbers counts as one of them."""
        value = _single(self.get(name))
        if value is None or value is False or value == 0:
            return default if value is None else 0
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST:
            raise ModelError(f"{name} {_said(value)} is not a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LARGEST:
            raise ModelError(f"{name} {_said(value)} is not a positive number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(name)
        return default if value is None else bool(value)

    def word(self, name: str) -> str:
        """A text, or an empty one."""
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def items(self, name: str) -> tuple[Any, ...]:
        """A list, or an empty one. Raises ModelError where it is longer than any model's."""
        value = self.get(name)
        if not isinstance(value, list | tuple):
            return ()
        if len(value) > _LONGEST_LIST:
            raise ModelError(f"{name} has {len(value)} items, more than {_LONGEST_LIST}")
        return tuple(value)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.get(name) is not None

    def part(self, name: str, defaults: Mapping[str, Any] | None = None) -> Fields | None:
        """A nested object, for example `vision_config`."""
        value = self.raw.get(name)
        return Fields(value, defaults) if isinstance(value, Mapping) else None

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """The same fields with an architecture's defaults."""
        return Fields(self.raw, {**self._defaults, **defaults})

    @property
    def layers(self) -> int:
        """Decoder layers."""
        listed = len(self.items("layer_types")) or len(self.word("hybrid_override_pattern"))
        found = self.count("num_hidden_layers", listed or None)
        if found > MOST_LAYERS:
            raise ModelError(f"num_hidden_layers {found} is more than {MOST_LAYERS}")
        return found

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.count("hidden_size")

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.count("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        """Key-value heads. Raises ModelError where they do not divide the query heads."""
        found = self.count("num_key_value_heads", self.heads)
        if self.heads % found:
            raise ModelError(f"num_key_value_heads {found} does not divide num_attention_heads {self.heads}")
        return found

    @property
    def head_size(self) -> int:
        """Numbers of one head."""
        return self.count("head_dim", self.hidden // self.heads)

    @property
    def inner(self) -> int:
        """Width of a dense feed-forward layer."""
        return self.count("intermediate_size", 4 * self.hidden)
