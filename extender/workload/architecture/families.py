"""Families of decoders: how layers are put together from attention, recurrent and feed-forward parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from extender.workload.architecture.attention import grouped
from extender.workload.architecture.feed_forward import FeedForward, dense
from extender.workload.architecture.recurrent import Mixer
from extender.workload.checkpoint.config_fields import Fields, ModelError
from extender.workload.structure import (
    EMBEDDINGS,
    NORMS,
    OUTPUT_LAYER,
    PREDICTION,
    Layer,
    Structure,
    Weight,
    assigned,
    linear,
    structure,
    vector,
)

Block = Callable[[Fields, int, str], list[Layer]]
"""Fields, layer and the layer's module name -> its sublayers."""


def norms(prefix: str, hidden: int, count: int, biased: bool) -> Layer:
    """The norms of a layer."""
    return Layer((vector(f"{prefix}.norms", NORMS, hidden * count * (2 if biased else 1)),) if count else ())


def transformer(attention: Mixer | None = None, feed_forward: FeedForward | None = None, count: int = 2, biased: bool = False) -> Block:
    """Attention, a feed-forward layer and `count` norms in each layer."""
    attend, feed = attention or grouped(), feed_forward or dense(bias=None)

    def block(fields: Fields, index: int, prefix: str) -> list[Layer]:
        return [attend(fields, index, prefix), Layer(feed(fields, index, prefix)), norms(prefix, fields.hidden, count, biased)]

    return block


def hybrid(kind: Callable[[Fields, int], str], mixers: Mapping[str, Mixer], feed_forward: FeedForward | None, count: int = 2) -> Block:
    """A mixer by the kind of the layer, and a feed-forward layer in each where there is one. Raises ModelError for another kind."""

    def block(fields: Fields, index: int, prefix: str) -> list[Layer]:
        name = kind(fields, index)
        if name not in mixers:
            raise ModelError(f"layer {index} is of kind {name[:60]!r}, which is none of {', '.join(mixers)}")
        found = [mixers[name](fields, index, prefix), norms(prefix, fields.hidden, count, False)]
        return [*found, Layer(feed_forward(fields, index, prefix))] if feed_forward else found

    return block


def as_mixer(feed_forward: FeedForward) -> Mixer:
    """A feed-forward layer where a layer is nothing else (Nemotron-H)."""
    return lambda fields, index, prefix: Layer(feed_forward(fields, index, prefix))


@dataclass(frozen=True, slots=True)
class Decoder:
    """An architecture: its layers, and what stands around them."""

    block: Block
    tied: bool = False
    """Whether embeddings and output layer are one matrix, where the file does not say."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the configuration class has where the published file omits a field."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """The same, but only for a text model inside a multimodal one, whose file omits even sizes."""
    positions: int | None = None
    """Learned absolute positions: rows more than `max_position_embeddings`; None: no such table."""
    head_bias: bool = False
    prefix: str = "model.layers"
    prediction: Callable[[Fields, Decoder], tuple[Weight, ...]] | None = None
    """Layers for multi-token prediction that the published file has."""
    recurrent: bool = False
    """No attention at all: there are no heads."""
    extra_embeddings: int = 0
    """Rows of the embedding beyond the vocabulary."""
    tables: Callable[[Fields], tuple[Weight, ...]] | None = None
    """Further embeddings."""

    def structure(self, fields: Fields) -> Structure:
        """The text model. Raises ModelError naming the field that is missing or makes no sense."""
        hidden, vocabulary = fields.hidden, fields.count("vocab_size")
        layers = [part for index in range(fields.layers) for part in self.block(fields, index, f"{self.prefix}.{index}")]
        weights: tuple[Weight, ...] = (embedding("model.embed_tokens", vocabulary + self.extra_embeddings, hidden),)
        if self.positions is not None:
            weights += (embedding("model.embed_positions", fields.count("max_position_embeddings") + self.positions, hidden),)
        weights += (vector("model.norm", NORMS, hidden),)
        if not self.is_tied(fields):
            weights += linear("lm_head", OUTPUT_LAYER, vocabulary, hidden, self.head_bias)
        weights += self.tables(fields) if self.tables is not None else ()
        if self.prediction is not None:
            weights += self.prediction(fields, self)
        return structure(layers, weights)

    def is_tied(self, fields: Fields) -> bool:
        """Whether the output layer is the embedding."""
        return fields.flag("tie_word_embeddings", self.tied)


def embedding(module: str, rows: int, width: int) -> Weight:
    """A table that is looked up, never quantised by the methods known here."""
    return Weight(module, EMBEDDINGS, rows, width, linear=False)


def predicted(count: str, *, copies: bool = False, default: int = 0, place: str = "") -> Callable[[Fields, Decoder], tuple[Weight, ...]]:
    """Multi-token prediction as DeepSeek-V3 has it: a whole further layer and a projection of two hidden states to one.

    `copies`: the file also repeats embedding and output layer per prediction layer.
    """

    def weights(fields: Fields, decoder: Decoder) -> tuple[Weight, ...]:
        found: list[Weight] = []
        for extra in range(min(64, fields.amount(count, default))):
            index = fields.layers + extra
            prefix = place or f"{decoder.prefix}.{index}"
            for layer in decoder.block(fields, index, prefix):
                found += layer.weights
            found.append(Weight(f"{prefix}.eh_proj", PREDICTION, fields.hidden, 2 * fields.hidden, linear=False))
            found.append(vector(f"{prefix}.enorm_hnorm_norm", PREDICTION, 3 * fields.hidden))
            if copies:
                rows = fields.count("vocab_size")
                found.append(embedding(f"{prefix}.embed_tokens", rows, fields.hidden))
                found.append(Weight(f"{prefix}.shared_head.head", PREDICTION, rows, fields.hidden, linear=False))
        return assigned(found, PREDICTION)

    return weights
