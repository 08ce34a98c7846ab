"""The output of `fabricwise fit`: architecture, source of the weights' size, parts, bounds, and the most that fits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workload.files import header, index, model_folder
from tests.workload.known_models.published import PUBLISHED


def fit(*arguments: str, status: int = 0) -> str:
    """Return standard output as one line; standard error if a failure is expected."""
    command = [sys.executable, "-m", "extender", "fit", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={"COLUMNS": "400", "PATH": ""})
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout if status == 0 else done.stderr).split())


def answer(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(fit(*arguments, "-o", "json")))


def test_table_names_the_model_and_the_source_of_each_number(tmp_path: Path) -> None:
    deepseek = PUBLISHED["DeepSeek-V3"]
    said = fit("--model", str(model_folder(tmp_path / "DeepSeek-V3", deepseek.config, {})), "--tp", "8")
    for words in (
        "DeepSeek-V3: 684.5 billion parameters, 688.6 GB of weights, 16 x 8192 tokens on 8 GPUs",
        "architecture deepseek_v3",
        "quantisation fp8, 8 bit in blocks of 128 x 128",
        "weights from arithmetic from config.json",
        "for multi-token prediction, loaded only for speculative decoding",
        "70272 bytes of KV cache per token",
        "routed experts",
        "141 GB and larger",
        "smallest --tp",
    ):
        assert words in said


def test_windows_and_state_are_named(tmp_path: Path) -> None:
    gemma = model_folder(tmp_path / "gemma", PUBLISHED["gemma-3-27b"].config, {})
    assert "(52 layers keep at most 1024 tokens)" in fit("--model", str(gemma))
    nemotron = model_folder(tmp_path / "nemotron", PUBLISHED["NVIDIA-Nemotron-3-Nano-30B-A3B"].config, {})
    assert "23.8 MiB of state per sequence" in fit("--model", str(nemotron))


def test_the_index_beside_the_config_is_the_source(tmp_path: Path) -> None:
    llama = PUBLISHED["Meta-Llama-3.1-8B"]
    folder = model_folder(tmp_path, llama.config, {"model.safetensors.index.json": index(llama.weights_bytes, {})})
    assert "weights from metadata.total_size of model.safetensors.index.json" in fit("--model", str(folder))
    assert answer("--model", str(folder), "--dtype", "fp8")["weights_from"] == "arithmetic from config.json"


def test_headers_of_the_files_are_the_source(tmp_path: Path) -> None:
    llama = PUBLISHED["Meta-Llama-3.1-8B"]
    folder = model_folder(tmp_path, llama.config, {"model.safetensors": header({"a": llama.weights_bytes})})
    found = answer("--model", str(folder / "model.safetensors"))
    assert found["weights_from"] == "headers of 1 safetensors file"
    assert found["all_weights_bytes"] == llama.weights_bytes


def test_unknown_architecture_is_shown_with_bounds(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "new", {**PUBLISHED["Meta-Llama-3.1-8B"].config, "model_type": "sparkle"}, {})
    said = fit("--model", str(folder))
    assert "new: at most 16.6 billion parameters, 2.1 to 33.1 GB of weights" in said
    assert "warning: unknown architecture: sparkle: all sizes are bounds, the upper ones are used" in said
    assert "per GPU, upper bound" in said
    low, high = answer("--model", str(folder))["bounds"]["weights_bytes"]
    assert low < 16060522496 < high


def test_most_that_fits_is_shown_for_each_memory_class(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, PUBLISHED["gpt-oss-120b"].config, {})
    rows = {row["memory_class_gb"]: row for row in answer("--model", str(folder))["by_memory_class"]}
    assert rows[80]["fits"]
    assert rows[80]["tensor_parallel"] == 1
    assert rows[80]["largest_concurrency"] >= 16
    assert not rows[40]["fits"]
    assert rows[40]["largest_concurrency"] is None
    assert rows[40]["tensor_parallel"] == 2


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing there": (("--model", "/nonexistent/model"), "give a folder with a Hugging Face config.json"),
    "a description without sizes": (("--model", '{"layers": 1}'), "--model: Object missing required field"),
    "a description that contradicts itself": (
        ("--model", '{"layers":1,"hidden_size":1,"attention_heads":1,"kv_heads":0,"head_size":1,"parameters":1}'),
        "1 attention_heads need kv_heads and head_size",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_error_names_the_invalid_option_or_field(case: str) -> None:
    arguments, words = WRONG[case]
    assert words in fit(*arguments, status=3)


def test_error_of_an_empty_config_names_the_fields_that_bounds_need(tmp_path: Path) -> None:
    said = fit("--model", str(model_folder(tmp_path, {"model_type": "sparkle"}, {})), status=3)
    assert "unknown architecture: sparkle; and no bounds, for num_hidden_layers is missing" in said
    assert "another model can be described as JSON" in said
