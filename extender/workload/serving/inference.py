"""A container's command line and environment -> facts about its model and parallelism, each with its source. Pure."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from extender.workload.checkpoint.schemes import DTYPE_BYTES, QUANTIZATION_BYTES
from extender.workload.serving.serving_engines import (
    BACKEND,
    CONTEXT,
    CONTEXT_PARALLEL,
    DATA,
    DATA_LOCAL,
    DTYPE,
    ENGINES,
    FILE,
    MODEL,
    NODES,
    PIPELINE,
    QUANTIZATION,
    SEVERAL_NODES,
    SEVERAL_NODES_VARIABLES,
    SEVERAL_NODES_WORDS,
    SWITCHES,
    TENSOR,
    UTILIZATION,
    Engine,
)

MOST_WORDS = 4096
"""Words of a container's command line that are read; later words are ignored."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The parts of a container that facts are inferred from."""

    container: str
    image: str
    words: tuple[str, ...]
    """Command and arguments, in the order in which the kubelet runs them."""
    environment: Mapping[str, str]
    gpus: int


@dataclass(frozen=True, slots=True)
class Fact:
    """One inferred value."""

    name: str
    value: str | int | float
    source: str
    """Where the value comes from, for people: `container vllm, --tensor-parallel-size`."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """Everything inferred about one container."""

    container: str
    engine: str
    gpus: int
    facts: tuple[Fact, ...]
    switches: frozenset[str] = frozenset()
    """Flags that are present and have no value, see `serving_engines.SWITCHES`."""
    unread: frozenset[str] = frozenset()
    """Facts whose flag is present with a value that is only known in the running container."""
    by_script: bool = False
    """Whether the engine is recognised by its image only, so that the command is the image's default or a script, which is not read."""

    def value(self, name: str) -> str | int | float | None:
        """Return the value of a fact; None if it is not inferred."""
        return next((fact.value for fact in self.facts if fact.name == name), None)

    def number(self, name: str) -> int | None:
        """Return the value of a fact that is a whole number; None otherwise."""
        value = self.value(name)
        return value if isinstance(value, int) else None


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0 else None


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.01 <= value <= 1 else None


def _tokens(text: str) -> int | None:
    """Return a number of tokens: digits, or vLLM's forms 32k (decimal), 32K (binary), 1m and 1M; None for other text."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([kKmM]?)", text, re.ASCII)
    if match is None:
        return None
    scale = {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 2**20}[match[2]]
    return int(float(match[1]) * scale) or None


def _word(text: str) -> str | None:
    return text or None


_READ: dict[str, Callable[[str], str | int | float | None]] = {
    **dict.fromkeys((TENSOR, PIPELINE, DATA, CONTEXT_PARALLEL, DATA_LOCAL, NODES), _whole),
    CONTEXT: _tokens,
    UTILIZATION: _share,
    MODEL: _word,
    BACKEND: _word,
    DTYPE: lambda text: text.lower() if text.lower() in DTYPE_BYTES else None,
    QUANTIZATION: lambda text: text.lower() if text.lower() in QUANTIZATION_BYTES else None,
}


def infer(line: CommandLine) -> Inferred | None:
    """Return the facts of a container's command line; None if no engine is recognised. Never raises: an invalid value is no fact."""
    words = _words(line)
    engine = _engine(line.image, words)
    if engine is None:
        return None
    facts: dict[str, Fact] = {}
    switches, unread = set[str](), set[str]()
    for variable, name in engine.variables.items():
        _add(facts, name, line.environment.get(variable, ""), f"container {line.container}, environment {variable}")
    if engine.positional_after is not None:
        model = _positional(words, engine.positional_after)
        if model is not None:
            _add(facts, MODEL, model, f"container {line.container}, argument {engine.positional_after} {model}")
    for flag, value in _flags(words):
        fact = engine.flags.get(flag)
        if fact in SWITCHES:
            switches |= {fact} if value.lower() != "false" else set()
        elif fact is not None and not _add(facts, fact, value, f"container {line.container}, {flag}"):
            unread.add(fact)
    if _has_several_nodes(line, words) or (BACKEND in facts and facts[BACKEND].value == "ray"):
        switches.add(SEVERAL_NODES)
    begins_with_arguments = bool(words) and (words[0].startswith("-") or words[0] == engine.positional_after)
    return Inferred(
        container=line.container,
        engine=engine.name,
        gpus=line.gpus,
        facts=tuple(facts[name] for name in sorted(facts)),
        switches=frozenset(switches),
        unread=frozenset(unread),
        by_script=not begins_with_arguments and not any(_is_mark(word, engine) for word in words),
    )


def tells_of_several_nodes(word: str) -> bool:
    """Return whether the word occurs only in command lines that start one process group over several nodes, or is part of `ray start`."""
    return word.rstrip(";").endswith(SEVERAL_NODES_WORDS) or any(f"${name}" in word for name in SEVERAL_NODES_WORDS) or word in _RAY_START


_RAY_START = ("ray", "start")


def _has_several_nodes(line: CommandLine, words: Sequence[str]) -> bool:
    if not SEVERAL_NODES_VARIABLES.isdisjoint(line.environment):
        return True
    pairs = itertools.pairwise(words)
    return _RAY_START in pairs or any(tells_of_several_nodes(word) and word not in _RAY_START for word in words)


_SIZES = (TENSOR, PIPELINE, CONTEXT_PARALLEL, DATA)
_SIZE_NAMES = {TENSOR: "tensor", PIPELINE: "pipeline", CONTEXT_PARALLEL: "context", DATA: "data"}


def warnings(inferred: Inferred) -> tuple[str, ...]:
    """Return warnings about a container whose parallelism does not use the GPUs it requests. A size that is unknown gives no warning."""
    engine = next(known for known in ENGINES if known.name == inferred.engine)
    if FILE in inferred.switches or not inferred.unread.isdisjoint((*_SIZES, DATA_LOCAL)) or not inferred.gpus:
        return ()
    sizes = {name: number for name in (*_SIZES, DATA_LOCAL) if (number := inferred.number(name)) is not None}
    several_nodes = SEVERAL_NODES in inferred.switches or NODES in inferred.unread or (inferred.number(NODES) or 1) > 1
    if not sizes:
        if inferred.gpus > 1 and engine.one_without and not several_nodes and not inferred.by_script:
            mismatch = f"requests {inferred.gpus} GPUs, but {inferred.engine} uses one without an argument for tensor parallelism"
            return (f"container {inferred.container} {mismatch}",)
        return ()
    ranks = engine.ranks({**sizes, **dict.fromkeys(inferred.switches, 1)})
    nodes = inferred.number(NODES)
    ranks = ranks // nodes if nodes and ranks % nodes == 0 else ranks
    if ranks == inferred.gpus:
        return ()
    is_multiple = ranks > inferred.gpus and ranks % inferred.gpus == 0
    if is_multiple and several_nodes and nodes is None and DATA_LOCAL not in sizes:
        return ()
    sizes_text = " x ".join(f"{_SIZE_NAMES[name]} parallelism {sizes[name]}" for name in _SIZES if name in sizes)
    sizes_text += f" of which {sizes[DATA_LOCAL]} are here" if DATA_LOCAL in sizes else ""
    sizes_text += f" on {nodes} nodes" if nodes else ""
    hint = ": a node of several, or a mistake" if is_multiple else ""
    return (f"container {inferred.container} runs with {sizes_text}, but requests {inferred.gpus} GPUs{hint}",)


def _add(facts: dict[str, Fact], name: str, text: str, source: str) -> bool:
    """Add a fact if the text has a valid value; return whether it has one."""
    value = _READ[name](text.strip())
    if value is not None:
        facts[name] = Fact(name, value, source)
    return value is not None


def _words(line: CommandLine) -> list[str]:
    """Return the words with each $(VARIABLE) replaced as the kubelet does, and shell scripts (`sh -c "..."`) split into words."""
    words: list[str] = []
    for word in line.words[:MOST_WORDS]:
        filled = re.sub(r"\$\((\w+)\)", lambda m: line.environment.get(m[1], m[0]), word)
        if " " in filled.strip() or "\n" in filled:
            filled = _SHELL_VARIABLE.sub(lambda m: line.environment.get(m[1], m[0] if m[2] is None else m[2]), filled)
            words += _split(filled)
        else:
            words.append(filled)
    return words[:MOST_WORDS]


_SHELL_VARIABLE = re.compile(r"\$\{?(\w+)(?::?-([^}\s]*))?\}?")
"""`$NAME`, `${NAME}` and `${NAME:-default}`."""


def _split(script: str) -> list[str]:
    plain = script.replace("\\\n", " ")
    try:
        return shlex.split(plain, comments=True)
    except ValueError:
        return plain.split()


def _engine(image: str, words: Sequence[str]) -> Engine | None:
    """Return the engine by the command, else by the image; None if neither names one."""
    for engine in ENGINES:
        if any(_is_mark(word, engine) for word in words):
            return engine
    name = image.partition("@")[0].rsplit(":", 1)[0].lower()
    return next((engine for engine in ENGINES if any(mark in name for mark in engine.marks)), None)


def _is_mark(word: str, engine: Engine) -> bool:
    return any(word == mark or word.endswith(f"/{mark}") for mark in engine.marks)


def _positional(words: Sequence[str], after: str) -> str | None:
    """Return the argument that follows the word `after`; None if a flag follows, or no such word is there."""
    for index, word in enumerate(words[:-1]):
        if word == after or word.endswith(f"/{after}"):
            following = words[index + 1]
            if following == "serve" and index + 2 < len(words):  # trtllm-serve serve MODEL
                following = words[index + 2]
            return None if following.startswith("-") else following
    return None


def _flags(words: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Yield (flag, value) for `--a=b` and `--a b`, with underscores in flags replaced by dashes."""
    for index, word in enumerate(words):
        if not word.startswith("-"):
            continue
        flag, equals, value = word.partition("=")
        if not equals:
            value = words[index + 1] if index + 1 < len(words) else ""
        yield flag.replace("_", "-"), value


REDACTED = "redacted"
"""Replaces a word or value that nothing is inferred from."""


def needed_words(line: CommandLine) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the words and environment that something is inferred from; other words are redacted, other variables left out.

    `infer` returns the same for a command line made of the result as for `line`. Scripts are split and variables replaced, as in `infer`.
    """
    words = _words(line)
    flags = {flag for engine in ENGINES for flag in engine.flags}
    variables = {name for engine in ENGINES for name in engine.variables} | SEVERAL_NODES_VARIABLES
    models = {_positional(words, engine.positional_after) for engine in ENGINES if engine.positional_after is not None}
    kept: list[str] = []
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        flag, equals, _ = word.partition("=")
        if word.startswith("-"):
            kept.append(word if _is_flag(word, flags) else flag + (f"={REDACTED}" if equals else ""))
        elif (_is_flag(before, flags) and "=" not in before) or word in models or _is_needed(word):
            kept.append(word)
        else:
            kept.append(REDACTED)
    return tuple(kept), {name: value for name, value in line.environment.items() if name in variables}


def _is_flag(word: str, flags: set[str]) -> bool:
    return word.startswith("-") and word.partition("=")[0].replace("_", "-") in flags


def _is_needed(word: str) -> bool:
    """Return whether the word names an engine, is followed by the model, or means several nodes."""
    after = [engine.positional_after for engine in ENGINES if engine.positional_after is not None]
    precedes_model = any(word == name or word.endswith(f"/{name}") for name in after)
    return precedes_model or tells_of_several_nodes(word) or any(_is_mark(word, engine) for engine in ENGINES)
