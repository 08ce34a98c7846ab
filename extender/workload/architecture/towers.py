"""Vision towers and projectors of multimodal models. They have weights and no KV cache. Pure.

Source: modelling files of Hugging Face transformers 4.57 and 5. Published files omit fields that equal the configuration class's defaults;
the defaults here are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from extender.workload.checkpoint.config_fields import MOST_LAYERS, Fields, ModelError
from extender.workload.structure import VISION, Weight, linear, vector

Tower = Callable[[Fields, Fields], tuple[Weight, ...]]
"""(fields of the config.json, fields of the text model) -> weights of tower and projector."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """A vision transformer."""

    module: str
    """Module name of its layers, without the index."""
    hidden: int
    inner: int
    layers: int
    gated: bool = False
    attention_bias: bool = True
    mlp_bias: bool = True
    norm_bias: bool = True
    more_per_layer: int = 0
    """Numbers per layer in vectors other than biases and the two norms."""

    def weights(self) -> tuple[Weight, ...]:
        """Return the weights of all layers. Raises ModelError if there are more than MOST_LAYERS layers."""
        if self.layers > MOST_LAYERS:
            raise ModelError(f"vision layers {self.layers} are more than {MOST_LAYERS}")
        weights: list[Weight] = []
        for layer in range(self.layers):
            module = f"{self.module}.{layer}"
            weights += linear(f"{module}.attn.qkv", VISION, 3 * self.hidden, self.hidden, self.attention_bias)
            weights += linear(f"{module}.attn.proj", VISION, self.hidden, self.hidden, self.attention_bias)
            ups = 2 if self.gated else 1
            weights += linear(f"{module}.mlp.fc1", VISION, ups * self.inner, self.hidden, self.mlp_bias)
            weights += linear(f"{module}.mlp.fc2", VISION, self.hidden, self.inner, self.mlp_bias)
            weights.append(vector(f"{module}.norms", VISION, (4 if self.norm_bias else 2) * self.hidden + self.more_per_layer))
        return tuple(weights)


def _vision(whole: Fields, defaults: Mapping[str, Any]) -> Fields:
    vision = whole.part("vision_config", defaults)
    return vision if vision is not None else Fields({}, defaults)


def _patches(vision: Fields) -> int:
    """Return the number of patches of an image."""
    size = vision.get("image_size")
    side = size[0] if isinstance(size, list) and size else size
    side = side if isinstance(side, int) and side > 0 else 224
    return max(1, side // vision.count("patch_size", 14)) ** 2


def _stem(module: str, hidden: int, pixels: int, positions: int = 0) -> tuple[Weight, ...]:
    """Return the patch embedding (a convolution) and the position embedding, which are never quantised."""
    patches = (Weight(f"{module}.patch_embedding", VISION, hidden, pixels, linear=False), vector(f"{module}.patch_bias", VISION, hidden))
    return (*patches, Weight(f"{module}.position_embedding", VISION, positions, hidden, linear=False)) if positions else patches


_SIGLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 16, "image_size": 224}
_CLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32, "image_size": 224}
_PIXTRAL = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 16, "image_size": 1024}


def encoder(whole: Fields) -> tuple[tuple[Weight, ...], int]:
    """Return (weights, width) of the tower named by `vision_config.model_type`. Raises ModelError for an unknown one."""
    raw = whole.part("vision_config") or Fields({})
    kind = raw.word("model_type")
    if kind == "pixtral":
        vision = _vision(whole, _PIXTRAL)
        shape = Encoder(
            "vision_tower.transformer.layers",
            vision.hidden,
            vision.inner,
            vision.layers,
            gated=True,
            attention_bias=False,
            mlp_bias=False,
            norm_bias=False,
        )
        stem = _stem("vision_tower", vision.hidden, 3 * vision.count("patch_size") ** 2)
        return stem + shape.weights(), vision.hidden
    if kind in ("siglip_vision_model", "clip_vision_model", "idefics3", "smolvlm_vision", "idefics3_vision", "idefics2_vision"):
        clip = kind.startswith("clip")
        vision = _vision(whole, _CLIP if clip else {**_SIGLIP, "patch_size": 14 if "idefics" in kind else 16})
        shape = Encoder("vision_tower.vision_model.encoder.layers", vision.hidden, vision.inner, vision.layers)
        stem = _stem("vision_tower", vision.hidden, 3 * vision.count("patch_size") ** 2, _patches(vision) + (1 if clip else 0))
        ends = (vector("vision_tower.norms", VISION, (5 if clip else 2) * vision.hidden),)
        return stem + shape.weights() + ends, vision.hidden
    raise ModelError(f"vision_config.model_type {kind[:60]!r} is not known")


def llava(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """LLaVA 1.5, NeXT, OneVision: a tower and two linear layers."""
    tower, width = encoder(whole)
    bias = whole.flag("multimodal_projector_bias", True)
    first = linear("multi_modal_projector.linear_1", VISION, text.hidden, width, bias)
    return tower + first + linear("multi_modal_projector.linear_2", VISION, text.hidden, text.hidden, bias)


def mistral3(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """Mistral Small 3.1: Pixtral's tower, a merger of 2 x 2 patches and two linear layers."""
    tower, width = encoder(whole)
    merge = whole.count("spatial_merge_size", 2) ** 2
    projector = linear("multi_modal_projector.patch_merger.merging_layer", VISION, width, merge * width)
    projector += (vector("multi_modal_projector.norm", VISION, width),)
    projector += linear("multi_modal_projector.linear_1", VISION, text.hidden, width)
    return tower + projector + linear("multi_modal_projector.linear_2", VISION, text.hidden, text.hidden)


def one_projection(merge: str = "", bias: bool = True) -> Tower:
    """A tower and one linear layer: PaliGemma, Gemma 3 (no bias), Idefics 3 and SmolVLM (over `scale_factor` squared patches).

    `merge`: the field with the side of the square of patches that are joined.
    """

    def tower(whole: Fields, text: Fields) -> tuple[Weight, ...]:
        weights, width = encoder(whole)
        joined_patches = whole.count(merge, 2) ** 2 if merge else 1
        return weights + linear("multi_modal_projector.linear", VISION, text.hidden, joined_patches * width, bias)

    return tower


def qwen2_vl(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """Qwen2-VL and Qwen2.5-VL. In Qwen2-VL, `hidden_size` is the width of the output and `embed_dim` that of the tower."""
    vision = _vision(whole, {})
    newer = vision.has("intermediate_size") or whole.word("model_type").startswith("qwen2_5")
    hidden = vision.count("hidden_size", 1280) if newer else vision.count("embed_dim", 1280)
    inner = vision.count("intermediate_size", 3420) if newer else int(vision.number("mlp_ratio", 4) * hidden)
    shape = Encoder("visual.blocks", hidden, inner, vision.count("depth", 32), newer, norm_bias=not newer)
    merged = hidden * vision.count("spatial_merge_size", 2) ** 2
    pixels = 3 * vision.count("temporal_patch_size", 2) * vision.count("patch_size", 14) ** 2
    stem = (Weight("visual.patch_embed.proj", VISION, hidden, pixels, linear=False), vector("visual.merger.ln_q", VISION, hidden))
    merger = linear("visual.merger.mlp.0", VISION, merged, merged, True) + linear("visual.merger.mlp.2", VISION, text.hidden, merged, True)
    return stem + shape.weights() + merger


def qwen3_vl(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """Qwen3-VL and Qwen3.5: learned positions, and one merger for each vision layer whose output the text model reads."""
    vision = _vision(whole, {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16})
    hidden = vision.hidden
    shape = Encoder("model.visual.blocks", hidden, vision.inner, vision.count("depth", 27))
    merged = hidden * vision.count("spatial_merge_size", 2) ** 2
    pixels = 3 * vision.count("temporal_patch_size", 2) * vision.count("patch_size") ** 2
    weights = _stem("model.visual", hidden, pixels, vision.count("num_position_embeddings", 2304)) + shape.weights()
    for number in range(1 + len(vision.items("deepstack_visual_indexes"))):
        weights += linear(f"model.visual.merger.{number}.linear_fc1", VISION, merged, merged, True)
        weights += linear(f"model.visual.merger.{number}.linear_fc2", VISION, text.hidden, merged, True)
        weights += (vector(f"model.visual.merger.{number}.norm", VISION, 2 * (merged if number else hidden)),)
    return weights


def llama4(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """Llama 4: a tower, a pixel-shuffle adapter and one linear layer."""
    vision = _vision(whole, {"hidden_size": 768, "intermediate_size": 5632, "num_hidden_layers": 34, "image_size": 448})
    shape = Encoder("vision_model.model.layers", vision.hidden, vision.inner, vision.layers)
    middle, out = vision.count("projector_input_dim", 4096), vision.count("projector_output_dim", 4096)
    weights = _stem("vision_model", vision.hidden, 3 * vision.count("patch_size", 14) ** 2, _patches(vision) + 1) + shape.weights()
    weights += linear("vision_model.vision_adapter.mlp.fc1", VISION, middle, vision.inner) + linear(
        "vision_model.vision_adapter.mlp.fc2", VISION, out, middle
    )
    return weights + linear("multi_modal_projector.linear_1", VISION, text.hidden, out)


def mllama(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """Llama 3.2 Vision: local layers, gated global layers, and position embeddings per tile."""
    vision = _vision(whole, {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "image_size": 448})
    hidden, positions = vision.hidden, _patches(vision) + 1
    layers = vision.layers + vision.count("num_global_layers", 8)
    shape = Encoder("vision_model.transformer.layers", hidden, vision.inner, layers, attention_bias=False)
    ratios, tiles = len(vision.items("supported_aspect_ratios")) or 8, vision.count("max_num_tiles", 4)
    per_tile = (ratios + 1) * tiles * hidden
    weights = _stem("vision_model", hidden, 3 * vision.count("patch_size", 14) ** 2, positions) + shape.weights()
    weights += (vector("vision_model.tile_position_embedding", VISION, per_tile * (positions + 2)),)
    return weights + linear("multi_modal_projector", VISION, text.hidden, vision.count("vision_output_dim", 7680), True)


def internvl(whole: Fields, text: Fields) -> tuple[Weight, ...]:
    """InternVL: InternViT, then a norm and two linear layers over 2 x 2 patches."""
    vision = _vision(whole, {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 448, "patch_size": 14})
    hidden, normed = vision.hidden, 2 if vision.flag("qk_normalization") or vision.flag("use_qk_norm") else 0
    layer_norm = vision.word("norm_type") != "rms_norm"
    shape = Encoder(
        "vision_model.encoder.layers", hidden, vision.inner, vision.layers, norm_bias=layer_norm, more_per_layer=(2 + normed) * hidden
    )
    ratio = whole.get("downsample_ratio")
    merged = int(hidden / (ratio if isinstance(ratio, float) and 0 < ratio <= 1 else 0.5) ** 2)
    weights = _stem("vision_model", hidden, 3 * vision.count("patch_size", 14) ** 2, _patches(vision) + 1) + shape.weights()
    weights += (vector("mlp1.0", VISION, 2 * merged), *linear("mlp1.1", VISION, text.hidden, merged, True))
    return weights + linear("mlp1.3", VISION, text.hidden, text.hidden, True)


LARGEST_TOWER = 6_000_000_000
"""Numbers of the largest published tower, InternViT-6B: the upper bound if a file only names a tower."""
TOWER_FIELDS = (
    "vision_config",
    "audio_config",
    "speech_config",
    "visual",
    "vision",
    "audio",
    "vision_tower",
    "mm_vision_tower",
    "audio_encoder",
    "vit_config",
)
"""Fields that only multimodal models have."""


def any_tower(whole: Fields, text: Fields) -> int:
    """Return an upper bound of the numbers in unknown towers: per tower a gated transformer with its widest fields, and a projector."""
    total = 0
    for name in TOWER_FIELDS:
        nested = whole.part(name)
        if nested is None and isinstance(whole.raw.get(name), str):
            total += LARGEST_TOWER
        if nested is not None:
            sizes = [
                value for value in nested.raw.values() if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20
            ]
            layers = max(_whole(nested, "num_hidden_layers"), _whole(nested, "depth"), _whole(nested, "encoder_layers"), 24)
            hidden = _whole(nested, "hidden_size") or _whole(nested, "embed_dim") or _whole(nested, "width") or max(sizes, default=1280)
            inner = max(_whole(nested, "intermediate_size"), _whole(nested, "encoder_ffn_dim"), 4 * hidden)
            projector = (4 * hidden + text.hidden) * 4 * (hidden + text.hidden)
            total += layers * (4 * hidden**2 + 3 * hidden * inner) + projector
    return total


def _whole(fields: Fields, name: str) -> int:
    """Return a positive whole number below 2**24; 0 if the field is something else."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 24 else 0
