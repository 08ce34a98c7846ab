"""What a pod's containers say of their work without meaning to: serving engines' arguments and environment. Every fact with its source.

Arguments as of vLLM 0.10, SGLang 0.5, Text Generation Inference 3, TensorRT-LLM 1.0 (`trtllm-serve`) and Triton's launch script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from extender.workload.model import DTYPE_BYTES, QUANTIZATION_BYTES

MOST_WORDS = 4096
"""Words of a container's command line that are looked at."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A container as far as its work shows."""

    container: str
    image: str
    words: tuple[str, ...]
    """Command and arguments, as the kubelet would run them."""
    environment: Mapping[str, str]
    gpus: int


@dataclass(frozen=True, slots=True)
class Fact:
    """Something inferred."""

    name: str
    value: str | int | float
    source: str
    """For people: `container vllm, --tensor-parallel-size`."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """All that is inferred of one container."""

    container: str
    engine: str
    gpus: int
    facts: tuple[Fact, ...]

    def value(self, name: str) -> str | int | float | None:
        """A fact by name."""
        return next((fact.value for fact in self.facts if fact.name == name), None)

    def number(self, name: str) -> int | None:
        """A fact that is a whole number."""
        found = self.value(name)
        return found if isinstance(found, int) else None


TENSOR, PIPELINE, DATA = "tensor_parallel", "pipeline_parallel", "data_parallel"
MODEL, DTYPE, QUANTIZATION = "model", "dtype", "quantization"
CONTEXT, UTILIZATION = "context", "memory_utilization"


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0 else None


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.01 <= value <= 1 else None


def _tokens(text: str) -> int | None:
    """vLLM also takes 32k and 1M."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([kKmM]?)", text, re.ASCII)
    if match is None:
        return None
    scale = {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 2**20}[match[2]]
    return int(float(match[1]) * scale) or None


def _word(text: str) -> str | None:
    return text or None


_READ: dict[str, Callable[[str], str | int | float | None]] = {
    TENSOR: _whole, PIPELINE: _whole, DATA: _whole, CONTEXT: _tokens, UTILIZATION: _share,
    MODEL: _word, DTYPE: lambda text: text.lower() if text.lower() in DTYPE_BYTES else None,
    QUANTIZATION: lambda text: text.lower() if text.lower() in QUANTIZATION_BYTES else None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Engine:
    """How one engine is recognised and what its flags and variables mean."""

    name: str
    marks: tuple[str, ...]
    """A word of the command line that ends so, or a part of the image's name."""
    flags: Mapping[str, str]
    """Flag, with dashes -> fact."""
    variables: Mapping[str, str]
    positional_after: str | None = None
    """A word after which the model stands bare (`vllm serve MODEL`)."""


ENGINES: tuple[Engine, ...] = (
    Engine(
        "sglang", ("sglang.launch_server", "sglang"),
        {"--tp-size": TENSOR, "--tp": TENSOR, "--tensor-parallel-size": TENSOR, "--pp-size": PIPELINE, "--pipeline-parallel-size": PIPELINE,
         "--dp-size": DATA, "--model-path": MODEL, "--model": MODEL, "--dtype": DTYPE, "--quantization": QUANTIZATION,
         "--context-length": CONTEXT, "--mem-fraction-static": UTILIZATION}, {},
    ),
    Engine(
        "tgi", ("text-generation-launcher", "text-generation-inference"),
        {"--num-shard": TENSOR, "--model-id": MODEL, "--dtype": DTYPE, "--quantize": QUANTIZATION, "--max-total-tokens": CONTEXT,
         "--cuda-memory-fraction": UTILIZATION},
        {"NUM_SHARD": TENSOR, "MODEL_ID": MODEL, "DTYPE": DTYPE, "QUANTIZE": QUANTIZATION, "MAX_TOTAL_TOKENS": CONTEXT,
         "CUDA_MEMORY_FRACTION": UTILIZATION},
    ),
    Engine(
        "tensorrt-llm", ("trtllm-serve", "trtllm-llmapi-launch", "tensorrt-llm"),
        {"--tp-size": TENSOR, "--pp-size": PIPELINE, "--max-seq-len": CONTEXT, "--kv-cache-free-gpu-memory-fraction": UTILIZATION}, {},
        "trtllm-serve",
    ),
    Engine("triton", ("tritonserver", "launch_triton_server.py"), {"--world-size": TENSOR, "--tp": TENSOR}, {}),
    Engine(
        "vllm", ("vllm", "vllm.entrypoints.openai.api_server", "vllm-openai"),
        {"--tensor-parallel-size": TENSOR, "-tp": TENSOR, "--tp": TENSOR, "--pipeline-parallel-size": PIPELINE, "-pp": PIPELINE,
         "--data-parallel-size": DATA, "-dp": DATA, "--model": MODEL, "--dtype": DTYPE, "--quantization": QUANTIZATION, "-q": QUANTIZATION,
         "--max-model-len": CONTEXT, "--gpu-memory-utilization": UTILIZATION}, {}, "serve",
    ),
)  # fmt: skip


def infer(line: CommandLine) -> Inferred | None:
    """What a container's command line tells; None where no engine is recognised. Never raises: a value that makes no sense is none."""
    words = _words(line)
    engine = _engine(line.image, words)
    if engine is None:
        return None
    facts: dict[str, Fact] = {}
    for variable, name in engine.variables.items():
        _add(facts, name, line.environment.get(variable, ""), f"container {line.container}, environment {variable}")
    if engine.positional_after is not None:
        bare = _positional(words, engine.positional_after)
        if bare is not None:
            _add(facts, MODEL, bare, f"container {line.container}, argument {engine.positional_after} {bare}")
    for flag, value in _flags(words):
        fact = engine.flags.get(flag)
        if fact is not None:
            _add(facts, fact, value, f"container {line.container}, {flag}")
    return Inferred(line.container, engine.name, line.gpus, tuple(facts[name] for name in sorted(facts)))


def warnings(found: Inferred) -> tuple[str, ...]:
    """What looks wrong about it."""
    tensor, pipeline, data = (found.number(name) for name in (TENSOR, PIPELINE, DATA))
    if tensor is None and pipeline is None and data is None:
        if found.gpus > 1 and found.engine in ("vllm", "sglang"):
            said = f"requests {found.gpus} GPUs, but {found.engine} uses one without an argument for tensor parallelism"
            return (f"container {found.container} {said}",)
        return ()
    ranks = (tensor or 1) * (pipeline or 1) * (data or 1)
    if ranks == found.gpus:
        return ()
    parts = [("tensor", tensor), ("pipeline", pipeline), ("data", data)]
    told = " x ".join(f"{name} parallelism {size}" for name, size in parts if size is not None)
    if ranks > found.gpus and found.gpus and ranks % found.gpus == 0:
        return (f"container {found.container} runs with {told}, but requests {found.gpus} GPUs: a node of several, or a mistake",)
    return (f"container {found.container} runs with {told}, but requests {found.gpus} GPUs",)


def _add(facts: dict[str, Fact], name: str, text: str, source: str) -> None:
    value = _READ[name](text.strip())
    if value is not None:
        facts[name] = Fact(name, value, source)


def _words(line: CommandLine) -> list[str]:
    """The words, $(VARIABLE)s filled in as the kubelet does, shell scripts (`sh -c "..."`) taken apart."""
    words: list[str] = []
    for word in line.words[:MOST_WORDS]:
        filled = re.sub(r"\$\((\w+)\)", lambda m: line.environment.get(m[1], m[0]), word)
        if " " in filled.strip() or "\n" in filled:
            filled = re.sub(r"\$\{?(\w+)\}?", lambda m: line.environment.get(m[1], m[0]), filled)
            words += _split(filled)
        else:
            words.append(filled)
    return words[:MOST_WORDS]


def _split(script: str) -> list[str]:
    plain = script.replace("\\\n", " ")
    try:
        return shlex.split(plain, comments=True)
    except ValueError:
        return plain.split()


def _engine(image: str, words: Sequence[str]) -> Engine | None:
    """By the command, else by the image."""
    for engine in ENGINES:
        if any(_is_mark(word, engine) for word in words):
            return engine
    name = image.partition("@")[0].rsplit(":", 1)[0].lower()
    return next((engine for engine in ENGINES if any(mark in name for mark in engine.marks)), None)


def _positional(words: Sequence[str], after: str) -> str | None:
    for place, word in enumerate(words[:-1]):
        if word == after or word.endswith(f"/{after}"):
            following = words[place + 1]
            return None if following.startswith("-") else following
    return None


def _flags(words: Sequence[str]) -> Iterable[tuple[str, str]]:
    """(flag, value) pairs; `--a=b`, `--a b`, underscores as dashes."""
    for place, word in enumerate(words):
        if not word.startswith("-"):
            continue
        flag, equals, value = word.partition("=")
        if not equals:
            value = words[place + 1] if place + 1 < len(words) else ""
        yield flag.replace("_", "-"), value


REDACTED = "redacted"
"""Stands for a word or value that nothing is inferred from."""


def needed_words(line: CommandLine) -> tuple[tuple[str, ...], dict[str, str]]:
    """The words and environment of a container as far as something is inferred from them; what else they say is replaced or left out.

    A command line made of the result tells the same as the given one: `infer` of both is equal. Scripts are taken apart and variables
    filled in, as `infer` reads them.
    """
    words = _words(line)
    flags = {flag for engine in ENGINES for flag in engine.flags}
    variables = {name for engine in ENGINES for name in engine.variables}
    bare = {_positional(words, engine.positional_after) for engine in ENGINES if engine.positional_after is not None}
    kept: list[str] = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        flag, equals, _ = word.partition("=")
        if word.startswith("-"):
            kept.append(word if _is_flag(word, flags) else flag + (f"={REDACTED}" if equals else ""))
        elif (_is_flag(before, flags) and "=" not in before) or word in bare or any(_is_telling(word, engine) for engine in ENGINES):
            kept.append(word)
        else:
            kept.append(REDACTED)
    return tuple(kept), {name: value for name, value in line.environment.items() if name in variables}


def _is_flag(word: str, flags: set[str]) -> bool:
    return word.startswith("-") and word.partition("=")[0].replace("_", "-") in flags


def _is_telling(word: str, engine: Engine) -> bool:
    after = engine.positional_after
    return _is_mark(word, engine) or (after is not None and (word == after or word.endswith(f"/{after}")))


def _is_mark(word: str, engine: Engine) -> bool:
    return any(word == mark or word.endswith(f"/{mark}") for mark in engine.marks)
