"""What a model consists of: its weight matrices by module name, its KV cache by layer, its recurrent state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta

_Size = Annotated[int, Meta(ge=1, lt=1 << 40)]

EMBEDDINGS, OUTPUT_LAYER, NORMS = "embeddings", "output layer", "norms"
ATTENTION, DENSE, ROUTED, SHARED, ROUTER = "attention", "dense MLP", "routed experts", "shared experts", "router"
STATE_SPACE, LINEAR_ATTENTION, CONVOLUTION = "state space", "linear attention", "short convolution"
VISION, PREDICTION = "vision and audio", "multi-token prediction"


@dataclass(frozen=True, slots=True)
class Weight:
    """Equal weight matrices of one module."""

    module: str
    """Its name in the published file without `.weight`; quantisation methods exclude modules by it. Of experts: the first one's."""
    part: str
    outputs: int
    inputs: int = 1
    count: int = 1
    used: int | None = None
    """Of `count`, those that one token uses; None: all."""
    linear: bool = True
    """Whether a quantisation method may convert it: matrices, not norms, biases, convolutions and embeddings."""

    @property
    def parameters(self) -> int:
        """Numbers in all of them."""
        return self.outputs * self.inputs * self.count

    @property
    def active_parameters(self) -> int:
        """Numbers that one token uses."""
        return self.outputs * self.inputs * (self.count if self.used is None else self.used)


@dataclass(frozen=True, slots=True)
class Cache:
    """KV cache of equal layers."""

    kind: Annotated[str, Meta(max_length=64)]
    """full, sliding, chunked, latent or indexer."""
    layers: _Size
    numbers: Annotated[int, Meta(ge=0, lt=1 << 40)]
    """Per token and layer: keys and values together."""
    heads: _Size | None = None
    """Key-value heads, which tensor parallelism divides; None: every rank keeps all of it."""
    window: _Size | None = None
    """Most tokens that such a layer keeps per sequence."""
    number_bytes: Annotated[float, Meta(gt=0, le=16)] | None = None
    """Where the number's width does not follow the KV cache's dtype."""


@dataclass(frozen=True, slots=True)
class State:
    """Recurrent state of equal layers: constant per sequence, whatever its length."""

    kind: str
    layers: int
    numbers: int
    """Per sequence and layer, in the model's dtype."""
    wide_numbers: int = 0
    """Per sequence and layer, in the dtype of the state (`mamba_ssm_cache_dtype`)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One sublayer: weights, and what it keeps between tokens."""

    weights: tuple[Weight, ...]
    cache: Cache | None = None
    state: State | None = None
    more_caches: tuple[Cache, ...] = ()


@dataclass(frozen=True, slots=True)
class Structure:
    """A whole model."""

    weights: tuple[Weight, ...]
    caches: tuple[Cache, ...]
    states: tuple[State, ...]
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Numbers in all weights, multi-token prediction included where the published file has it."""
        return sum(weight.parameters for weight in self.weights)


def linear(module: str, part: str, outputs: int, inputs: int, bias: bool = False) -> tuple[Weight, ...]:
    """A matrix, and its bias."""
    matrix = Weight(module, part, outputs, inputs)
    return (matrix, vector(module, part, outputs)) if bias else (matrix,)


def vector(module: str, part: str, size: int, count: int = 1) -> Weight:
    """A bias, a norm or another vector that is never quantised."""
    return Weight(module, part, size, 1, count, linear=False)


def assigned(weights: Iterable[Weight], part: str) -> tuple[Weight, ...]:
    """The same weights as another part of the model."""
    return tuple(replace(weight, part=part) for weight in weights)


def structure(layers: Iterable[Layer], weights: Iterable[Weight], notes: Iterable[str] = ()) -> Structure:
    """The model of these layers and other weights; equal caches and states are added up."""
    found, caches, states = list(weights), dict[Cache, int](), dict[State, int]()
    for layer in layers:
        found += layer.weights
        for cache in (layer.cache, *layer.more_caches):
            if cache is not None:
                one = replace(cache, layers=1)
                caches[one] = caches.get(one, 0) + cache.layers
        if layer.state is not None:
            single = replace(layer.state, layers=1)
            states[single] = states.get(single, 0) + layer.state.layers
    return Structure(
        tuple(found),
        tuple(replace(cache, layers=count) for cache, count in caches.items()),
        tuple(replace(state, layers=count) for state, count in states.items()),
        tuple(notes),
    )
