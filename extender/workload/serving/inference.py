"""What serving engines' command lines and environment tell of a container's work. Every fact with its source."""

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
    switches: frozenset[str] = frozenset()
    """Flags without a value of their own that are there: see `engines.SWITCHES`."""
    unread: frozenset[str] = frozenset()
    """Facts whose flag is there with a value that is only known where the container runs."""
    by_script: bool = False
    """Whether the engine is known by its image alone, and the command is the image's own or a script: neither is seen here."""

    def value(self, name: str) -> str | int | float | None:
        """A fact by name."""
        return next((fact.value for fact in self.facts if fact.name == name), None)

    def number(self, name: str) -> int | None:
        """A fact that is a whole number."""
        found = self.value(name)
        return found if isinstance(found, int) else None


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
    **dict.fromkeys((TENSOR, PIPELINE, DATA, CONTEXT_PARALLEL, DATA_LOCAL, NODES), _whole),
    CONTEXT: _tokens,
    UTILIZATION: _share,
    MODEL: _word,
    BACKEND: _word,
    DTYPE: lambda text: text.lower() if text.lower() in DTYPE_BYTES else None,
    QUANTIZATION: lambda text: text.lower() if text.lower() in QUANTIZATION_BYTES else None,
}


def infer(line: CommandLine) -> Inferred | None:
    """What a container's command line tells; None where no engine is recognised. Never raises: a value that makes no sense is none."""
    words = _words(line)
    engine = _engine(line.image, words)
    if engine is None:
        return None
    facts: dict[str, Fact] = {}
    switches, unread = set[str](), set[str]()
    for variable, name in engine.variables.items():
        _add(facts, name, line.environment.get(variable, ""), f"container {line.container}, environment {variable}")
    if engine.positional_after is not None:
        bare = _positional(words, engine.positional_after)
        if bare is not None:
            _add(facts, MODEL, bare, f"container {line.container}, argument {engine.positional_after} {bare}")
    for flag, value in _flags(words):
        fact = engine.flags.get(flag)
        if fact in SWITCHES:
            switches |= {fact} if value.lower() != "false" else set()
        elif fact is not None and not _add(facts, fact, value, f"container {line.container}, {flag}"):
            unread.add(fact)
    if _has_several_nodes(line, words) or (BACKEND in facts and facts[BACKEND].value == "ray"):
        switches.add(SEVERAL_NODES)
    starts = bool(words) and (words[0].startswith("-") or words[0] == engine.positional_after)
    script = not starts and not any(_is_mark(word, engine) for word in words)
    ordered = tuple(facts[name] for name in sorted(facts))
    return Inferred(line.container, engine.name, line.gpus, ordered, frozenset(switches), frozenset(unread), script)


def tells_of_several_nodes(word: str) -> bool:
    """Whether only a command line that starts one process group over several nodes has such a word, or it is one of `ray start`."""
    return word.rstrip(";").endswith(SEVERAL_NODES_WORDS) or any(f"${name}" in word for name in SEVERAL_NODES_WORDS) or word in _RAY_START


_RAY_START = ("ray", "start")


def _has_several_nodes(line: CommandLine, words: Sequence[str]) -> bool:
    if not SEVERAL_NODES_VARIABLES.isdisjoint(line.environment):
        return True
    pairs = itertools.pairwise(words)
    return _RAY_START in pairs or any(tells_of_several_nodes(word) and word not in _RAY_START for word in words)


_SIZES = (TENSOR, PIPELINE, CONTEXT_PARALLEL, DATA)
_SAID = {TENSOR: "tensor", PIPELINE: "pipeline", CONTEXT_PARALLEL: "context", DATA: "data"}


def warnings(found: Inferred) -> tuple[str, ...]:
    """What looks wrong about the number of GPUs that it asks for. A size that is not known here is no reason to warn."""
    engine = next(one for one in ENGINES if one.name == found.engine)
    if FILE in found.switches or not found.unread.isdisjoint((*_SIZES, DATA_LOCAL)) or not found.gpus:
        return ()
    sizes = {name: number for name in (*_SIZES, DATA_LOCAL) if (number := found.number(name)) is not None}
    several = SEVERAL_NODES in found.switches or NODES in found.unread or (found.number(NODES) or 1) > 1
    if not sizes:
        if found.gpus > 1 and engine.one_without and not several and not found.by_script:
            said = f"requests {found.gpus} GPUs, but {found.engine} uses one without an argument for tensor parallelism"
            return (f"container {found.container} {said}",)
        return ()
    ranks = engine.ranks({**sizes, **dict.fromkeys(found.switches, 1)})
    nodes = found.number(NODES)
    ranks = ranks // nodes if nodes and ranks % nodes == 0 else ranks
    if ranks == found.gpus:
        return ()
    whole = ranks > found.gpus and ranks % found.gpus == 0
    if whole and several and nodes is None and DATA_LOCAL not in sizes:
        return ()
    told = " x ".join(f"{_SAID[name]} parallelism {sizes[name]}" for name in _SIZES if name in sizes)
    told += f" of which {sizes[DATA_LOCAL]} are here" if DATA_LOCAL in sizes else ""
    told += f" on {nodes} nodes" if nodes else ""
    return (f"container {found.container} runs with {told}, but requests {found.gpus} GPUs{': a node of several, or a mistake' * whole}",)


def _add(facts: dict[str, Fact], name: str, text: str, source: str) -> bool:
    """Whether the text has a value; then it is a fact."""
    value = _READ[name](text.strip())
    if value is not None:
        facts[name] = Fact(name, value, source)
    return value is not None


def _words(line: CommandLine) -> list[str]:
    """The words, $(VARIABLE)s filled in as the kubelet does, shell scripts (`sh -c "..."`) taken apart."""
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
    """By the command, else by the image."""
    for engine in ENGINES:
        if any(_is_mark(word, engine) for word in words):
            return engine
    name = image.partition("@")[0].rsplit(":", 1)[0].lower()
    return next((engine for engine in ENGINES if any(mark in name for mark in engine.marks)), None)


def _is_mark(word: str, engine: Engine) -> bool:
    return any(word == mark or word.endswith(f"/{mark}") for mark in engine.marks)


def _positional(words: Sequence[str], after: str) -> str | None:
    for place, word in enumerate(words[:-1]):
        if word == after or word.endswith(f"/{after}"):
            following = words[place + 1]
            if following == "serve" and place + 2 < len(words):  # trtllm-serve serve MODEL
                following = words[place + 2]
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
    variables = {name for engine in ENGINES for name in engine.variables} | SEVERAL_NODES_VARIABLES
    bare = {_positional(words, engine.positional_after) for engine in ENGINES if engine.positional_after is not None}
    kept: list[str] = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        flag, equals, _ = word.partition("=")
        if word.startswith("-"):
            kept.append(word if _is_flag(word, flags) else flag + (f"={REDACTED}" if equals else ""))
        elif (_is_flag(before, flags) and "=" not in before) or word in bare or _is_telling(word):
            kept.append(word)
        else:
            kept.append(REDACTED)
    return tuple(kept), {name: value for name, value in line.environment.items() if name in variables}


def _is_flag(word: str, flags: set[str]) -> bool:
    return word.startswith("-") and word.partition("=")[0].replace("_", "-") in flags


def _is_telling(word: str) -> bool:
    """Whether the word names an engine, what its model follows, or several nodes."""
    after = [engine.positional_after for engine in ENGINES if engine.positional_after is not None]
    named = any(word == one or word.endswith(f"/{one}") for one in after)
    return named or tells_of_several_nodes(word) or any(_is_mark(word, engine) for engine in ENGINES)
