"""The fields of a config.json under one name each, with the architecture's defaults; every number is checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_LAYERS = 2048
"""The most layers of a model; a larger number in a file is an error."""
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
    """A model description with a missing, invalid or contradicting field; the message names the field."""


def _value_text(value: Any) -> str:
    """Return a value for an error message in few characters; only the type's name for a structure or a huge number."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value) if isinstance(value, int | float) and abs(value) < 1 << 64 else type(value).__name__


def _single(value: Any) -> Any:
    """Return one item of a list of equal items, because some files repeat a size per layer or per direction; other values unchanged."""
    if isinstance(value, list) and value and all(item == value[0] for item in value[:_LONGEST_LIST]):
        return value[0]
    return value


class Fields:
    """The fields of one object of a config.json. A null counts as a missing field."""

    def __init__(self, raw: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self.raw = raw
        self._defaults = defaults or {}

    def get(self, name: str) -> Any:
        """Return the field by its name or an alias, else the architecture's default; None if there is neither."""
        for known_name in (name, *_ALIASES.get(name, ())):
            value = self.raw.get(known_name)
            if value is not None:
                return value
        return self._defaults.get(name)

    def count(self, name: str, default: int | None = None) -> int:
        """Return a positive whole number. Raises ModelError if the field is invalid, or missing without a default."""
        value = self.get(name)
        if value is None:
            if default is None:
                raise ModelError(f"{name} is missing")
            return default
        value = _single(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST:
            raise ModelError(f"{name} {_value_text(value)} is not a positive whole number")
        return value

    def amount(self, name: str, default: int = 0) -> int:
        """Return a whole number, zero included; a list of equal numbers counts as one number. Raises ModelError if it is invalid."""
        value = _single(self.get(name))
        if value is None or value is False or value == 0:
            return default if value is None else 0
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LARGEST:
            raise ModelError(f"{name} {_value_text(value)} is not a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        """Return a positive number. Raises ModelError if it is invalid."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LARGEST:
            raise ModelError(f"{name} {_value_text(value)} is not a positive number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return the field as a boolean."""
        value = self.get(name)
        return default if value is None else bool(value)

    def word(self, name: str) -> str:
        """Return a text; an empty one if the field is missing or no text."""
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def items(self, name: str) -> tuple[Any, ...]:
        """Return a list; an empty one if the field is missing or no list. Raises ModelError if it is longer than any model's."""
        value = self.get(name)
        if not isinstance(value, list | tuple):
            return ()
        if len(value) > _LONGEST_LIST:
            raise ModelError(f"{name} has {len(value)} items, more than {_LONGEST_LIST}")
        return tuple(value)

    def has(self, name: str) -> bool:
        """Return whether the field is present and not null, or has a default."""
        return self.get(name) is not None

    def part(self, name: str, defaults: Mapping[str, Any] | None = None) -> Fields | None:
        """Return a nested object, for example `vision_config`; None if it is missing or no object."""
        value = self.raw.get(name)
        return Fields(value, defaults) if isinstance(value, Mapping) else None

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """Return the same fields with an architecture's defaults added."""
        return Fields(self.raw, {**self._defaults, **defaults})

    @property
    def layers(self) -> int:
        """Number of decoder layers. Raises ModelError if it is missing, invalid or more than MOST_LAYERS."""
        listed = len(self.items("layer_types")) or len(self.word("hybrid_override_pattern"))
        layers = self.count("num_hidden_layers", listed or None)
        if layers > MOST_LAYERS:
            raise ModelError(f"num_hidden_layers {layers} is more than {MOST_LAYERS}")
        return layers

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.count("hidden_size")

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.count("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads. Raises ModelError if it does not divide the query heads."""
        kv_heads = self.count("num_key_value_heads", self.heads)
        if self.heads % kv_heads:
            raise ModelError(f"num_key_value_heads {kv_heads} does not divide num_attention_heads {self.heads}")
        return kv_heads

    @property
    def head_size(self) -> int:
        """Numbers per head."""
        return self.count("head_dim", self.hidden // self.heads)

    @property
    def inner(self) -> int:
        """Width of a dense feed-forward layer."""
        return self.count("intermediate_size", 4 * self.hidden)
