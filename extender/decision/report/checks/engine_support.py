"""Serving engines and number formats that a GPU supports, by its CUDA compute capability. Pure.

The tables hold what the engines' documentation requires. A particular version of an engine, its image or its CUDA can require more.
"""

from __future__ import annotations

from dataclasses import dataclass

Capability = tuple[int, ...]
"""(major, minor)."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """An engine or format, and the lowest compute capability it needs."""

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
    """Return a sentence with the engines and number formats that support a compute capability, and those that do not."""
    supported, others = _split(ENGINES, capability)
    formats, missing = _split(FORMATS, capability)
    words = [f"compute capability {'.'.join(map(str, capability))} is supported by {', '.join(supported) or 'no engine known here'}"]
    if others:
        words.append(f"not by {', '.join(others)}")
    words.append(f"in hardware {', '.join([*formats, *(f'no {name}' for name in missing)])}")
    return f"{'; '.join(words)} (by the engines' documentation)"


def _split(requirements: tuple[Requirement, ...], capability: Capability) -> tuple[list[str], list[str]]:
    """Return the names of the requirements that are met, and the others with what they need."""
    met = [requirement.name for requirement in requirements if capability >= requirement.least]
    unmet = [requirement for requirement in requirements if capability < requirement.least]
    return met, [f"{requirement.name} (needs {'.'.join(map(str, requirement.least))})" for requirement in unmet]
