"""A model's shape: what its memory depends on, whether read from its files or described by hand."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from extender.workload.checkpoint.config_fields import ModelError
from extender.workload.structure import Cache

__all__ = ["SCALES_SHARE", "ModelError", "ModelShape", "contradiction"]

SCALES_SHARE: dict[float, float] = {0.5: 0.0625, 1: 0.002}
"""Bytes per number -> share added by scales and zero points: 4-bit formats keep 16 or 32 bits per group of 64 to 128 numbers,
8-bit ones a scale per channel or block of 128 x 128. Sources: the AWQ, GPTQ and OCP MX formats."""

Size = Annotated[int, Meta(ge=1, lt=1 << 40)]
Parameters = Annotated[int, Meta(ge=1, lt=1 << 50)]
Rest = Annotated[int, Meta(ge=0, lt=1 << 50)]
Width = Annotated[float, Meta(gt=0, le=16)]
"""Bytes of one number. Products of fields within these bounds are finite."""


class ModelShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What memory depends on. Also the JSON of annotation `fabricwise.dev/model`."""

    layers: Size
    hidden_size: Size
    attention_heads: Rest
    """Query heads, which tensor parallelism must divide; 0: the model has no attention."""
    kv_heads: Rest
    head_size: Rest
    parameters: Parameters
    active_parameters: Parameters | None = None
    """Of a mixture of experts, those that one token uses."""
    embedding_parameters: Rest = 0
    """Of them, embeddings and output layer, which quantisation does not convert."""
    intermediate_size: Rest = 0
    vocabulary: Rest = 0
    latent_size: Size | None = None
    """Numbers per token and layer of a latent KV cache (MLA), which tensor parallelism does not divide."""
    weight_bytes: Width = 2.0
    """Bytes per weight as published, where `published_bytes` does not say more."""
    dtype_bytes: Width = 2.0
    """Of activations and the KV cache, unless told otherwise."""
    context: Size | None = None
    """Longest context."""
    name: Annotated[str, Meta(max_length=256)] | None = None
    caches: Annotated[tuple[Cache, ...], Meta(max_length=64)] = ()
    """KV cache by kind of layer; without: `layers` x `kv_heads` x `head_size`, or `latent_size`."""
    state_numbers: Rest = 0
    """Recurrent state of one sequence, all layers, in the model's dtype."""
    state_bytes: Rest = 0
    """Recurrent state of one sequence, all layers, that has a dtype of its own."""
    published_bytes: Rest | None = None
    """All weights as published, scales included."""
    unloaded_bytes: Rest = 0
    """Of them, what an engine loads only for speculative decoding: layers for multi-token prediction."""
    kv_number_bytes: Width | None = None
    """Bytes per number of the KV cache, where the checkpoint has scales for one that is narrower than `dtype_bytes`."""
    widths: Annotated[tuple[Size, ...], Meta(max_length=64)] = ()
    """Widths of matrices that tensor parallelism must divide."""
    width_unit: Size = 1
    """What must remain a divisor of each width's share: the block or group of a quantisation scheme."""

    def kv_caches(self) -> tuple[Cache, ...]:
        """KV cache by kind of layer."""
        if self.caches or (not self.kv_heads and self.latent_size is None):
            return self.caches
        if self.latent_size is not None:
            return (Cache("latent", self.layers, self.latent_size),)
        return (Cache("full", self.layers, 2 * self.kv_heads * self.head_size, self.kv_heads),)

    def _number_bytes(self, bytes_per_number: float | None) -> float:
        return bytes_per_number or self.kv_number_bytes or self.dtype_bytes

    def kv_bytes_per_token(self, bytes_per_number: float | None = None) -> float:
        """KV cache of one token, over all layers, while no window is full."""
        size = self._number_bytes(bytes_per_number)
        return sum(cache.layers * cache.numbers * (cache.number_bytes or size) for cache in self.kv_caches())

    def kv_bytes(self, context: int, bytes_per_number: float | None = None, tensor_parallel: int = 1) -> float:
        """KV cache of one sequence of `context` tokens on one rank; a layer with a window keeps no more than that.

        Key-value heads are divided, and repeated where there are fewer than ranks; a latent is kept by every rank.
        """
        size, total = self._number_bytes(bytes_per_number), 0.0
        for cache in self.kv_caches():
            tokens = context if cache.window is None else min(context, cache.window)
            share = 1.0 if cache.heads is None else max(1, -(-cache.heads // tensor_parallel)) / cache.heads
            total += cache.layers * cache.numbers * (cache.number_bytes or size) * tokens * share
        return total

    def state_bytes_per_sequence(self) -> float:
        """Recurrent state of one sequence, constant whatever its length."""
        return self.state_numbers * self.dtype_bytes + self.state_bytes


def contradiction(shape: ModelShape) -> str | None:
    """What does not go together in a description from outside; None: nothing."""
    if shape.embedding_parameters > shape.parameters:
        return f"embedding_parameters {shape.embedding_parameters} are more than parameters {shape.parameters}"
    if shape.attention_heads and not (shape.kv_heads and shape.head_size) and not shape.caches and shape.latent_size is None:
        return f"{shape.attention_heads} attention_heads need kv_heads and head_size, latent_size or caches"
    if not shape.attention_heads and (shape.kv_heads or not (shape.state_numbers or shape.state_bytes)):
        return "attention_heads 0 needs kv_heads 0 and a state"
    return None
