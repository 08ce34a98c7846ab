"""Which serving engines and number formats a GPU supports, by its CUDA compute capability. Pure.

A table of what the engines' own documentation requires; a version of an engine, its image and its CUDA may ask for more.
"""

from __future__ import annotations

from dataclasses import dataclass

Capability = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """What needs at least a compute capability."""

    name: str
    least: Capability
    source: str


ENGINES = (
    Requirement("vLLM", (7, 0), "vLLM documentation, Installation, GPU: compute capability 7.0 or higher"),
    Requirement("SGLang", (7, 5), "FlashInfer, its default attention kernels: SM75 and later"),
    Requirement("TGI", (7, 5), "TGI documentation, Using TGI with Nvidia GPUs: T4 and later with flash attention"),
    Requirement("TensorRT-LLM", (8, 0), "TensorRT-LLM support matrix: Ampere (SM80) and later"),
)
FORMATS = (
    Requirement("BF16", (8, 0), "Transformer Engine support matrix"),
    Requirement("FP8", (8, 9), "Transformer Engine support matrix"),
    Requirement("NVFP4", (10, 0), "Transformer Engine support matrix"),
)


def engine_support(capability: Capability) -> str:
    """A sentence: the engines and number formats that support a compute capability, those that do not, and who says so."""
    supported, others = _parted(ENGINES, capability)
    formats, missing = _parted(FORMATS, capability)
    words = [f"compute capability {'.'.join(map(str, capability))} is supported by {', '.join(supported) or 'no engine known here'}"]
    if others:
        words.append(f"not by {', '.join(others)}")
    words.append(f"in hardware {', '.join([*formats, *(f'no {name}' for name in missing)])}")
    return f"{'; '.join(words)} (by the engines' documentation)"


def _parted(requirements: tuple[Requirement, ...], capability: Capability) -> tuple[list[str], list[str]]:
    met = [one.name for one in requirements if capability >= one.least]
    return met, [f"{one.name} (needs {'.'.join(map(str, one.least))})" for one in requirements if capability < one.least]
