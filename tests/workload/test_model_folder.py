"""Sizes read from a model's own files, and the errors of broken files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extender.errors import FabricwiseError, RequestError
from extender.sources.model_folder import read_model
from extender.workload.architecture.recognition import from_config
from extender.workload.fit_serializers import described, fit
from extender.workload.memory import Serving
from extender.workload.model import ModelShape, contradiction
from tests.workload.files import header, index, model_folder
from tests.workload.known_models.published import PUBLISHED

LLAMA = PUBLISHED["Meta-Llama-3.1-8B"]
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

STATED: dict[str, tuple[dict[str, bytes | str], int | None, str]] = {
    "nothing beside it": ({}, None, ""),
    "an index": ({"model.safetensors.index.json": index(16060522496, {"a": ONE})}, 16060522496, "metadata.total_size of"),
    "an index that writes its total as text": ({"model.safetensors.index.json": index("160", {"a": ONE})}, 160, "metadata.total_size of"),
    "all files: their headers before the index": (
        {"model.safetensors.index.json": index(7, {"a": ONE, "b": TWO}), ONE: header({"a": 100}), TWO: header({"b": 60})},
        160,
        "headers of 2 safetensors files",
    ),
    "a file is missing: the index": (
        {"model.safetensors.index.json": index(7, {"a": ONE, "b": TWO}), ONE: header({"a": 100})},
        7,
        "metadata.total_size of",
    ),
    "pointers of Git LFS: the index": (
        {"model.safetensors.index.json": index(7, {"a": ONE}), ONE: LFS},
        7,
        "metadata.total_size of",
    ),
    "one file without an index": ({"model.safetensors": header({"a": 100, "b": 20})}, 120, "headers of 1 safetensors file"),
    "a second copy in another layout counts once": (
        {"model.safetensors": header({"a": 100}), "consolidated.safetensors": header({"a": 100})},
        100,
        "headers of 1 safetensors file",
    ),
    "an adapter is not the model": (
        {"adapter_model.safetensors": header({"a": 3}), "model.safetensors": header({"a": 100})},
        100,
        "headers",
    ),
    "an index without a total": ({"model.safetensors.index.json": "{}"}, None, ""),
}


@pytest.mark.parametrize("case", STATED)
def test_the_size_is_the_one_that_files_state(case: str, tmp_path: Path) -> None:
    files, expected, words = STATED[case]
    found = read_model(model_folder(tmp_path, LLAMA.config, files))
    assert (found.stated.total_bytes if found.stated else None) == expected
    assert words in (found.stated.source if found.stated else "")


@pytest.mark.parametrize("name", ["", "config.json", "model.safetensors", "model.safetensors.index.json"])
def test_a_folder_and_each_of_its_files_name_the_same_model(name: str, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "model.safetensors": header({"a": 100}),
        "model.safetensors.index.json": index(100, {"a": "model.safetensors"}),
    }
    found = read_model(model_folder(tmp_path, LLAMA.config, files) / name)
    assert found.config["model_type"] == "llama"
    assert found.stated is not None
    assert found.stated.total_bytes == 100


def test_the_quantisation_of_a_modelopt_checkpoint_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    quantization = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    found = read_model(model_folder(tmp_path, LLAMA.config, {"hf_quant_config.json": json.dumps(quantization)}))
    model = from_config(found.config)
    assert model.quantization == "modelopt NVFP4, 4 bit in groups of 16"
    assert model.upper.kv_bytes_per_token() == LLAMA.kv_bytes_per_token / 2


BROKEN: dict[str, tuple[dict[str, bytes | str], str]] = {
    "not a safetensors file": ({"model.safetensors": b"\xff" * 64}, "is not a safetensors file"),
    "shorter than a length": ({"model.safetensors": b"\x01"}, "is not a safetensors file"),
    "ends within the header": ({"model.safetensors": (1000).to_bytes(8, "little") + b"{}"}, "ends within its header"),
    "a header that is not JSON": ({"model.safetensors": (2).to_bytes(8, "little") + b"{x"}, "is not JSON"),
    "a header that is a list": ({"model.safetensors": (2).to_bytes(8, "little") + b"[]"}, "is not an object"),
    "a tensor that ends before it begins": (
        {"model.safetensors": (36).to_bytes(8, "little") + b'{"a": {"data_offsets": [9, 1]}}     '},
        "data_offsets 9 to 1",
    ),
    "a tensor without a place": ({"model.safetensors": (10).to_bytes(8, "little") + b'{"a": {}} '}, "tensor a has no data_offsets"),
    "an index that is a list": ({"model.safetensors.index.json": "[]"}, "expected one JSON object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named(case: str, tmp_path: Path) -> None:
    files, words = BROKEN[case]
    with pytest.raises(FabricwiseError, match=words) as caught:
        read_model(model_folder(tmp_path, LLAMA.config, files))
    assert str(tmp_path) in str(caught.value)


def test_error_of_a_folder_without_config_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="give a folder with a Hugging Face"):
        read_model(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), framed=st.booleans())
def test_any_bytes_give_a_size_or_an_error_that_names_the_file(content: bytes, framed: bool, tmp_path: Path) -> None:
    text = len(content).to_bytes(8, "little") + content if framed else content
    try:
        found = read_model(model_folder(tmp_path, LLAMA.config, {"model.safetensors": text}))
    except FabricwiseError:
        return
    assert found.stated is None or found.stated.total_bytes >= 0


SERVING = Serving(8192, 16)


def answered(folder: Path) -> dict[str, object]:
    files = read_model(folder)
    return fit(from_config(files.config), SERVING, files.stated)


def test_size_that_files_state_is_used_and_its_source_named(tmp_path: Path) -> None:
    total = LLAMA.weights_bytes + 12345
    answer = answered(model_folder(tmp_path, LLAMA.config, {"model.safetensors.index.json": index(total, {})}))
    assert answer["all_weights_bytes"] == total
    assert answer["weights_from"] == "metadata.total_size of model.safetensors.index.json"
    assert answer["warnings"] == []


def test_files_of_another_model_give_a_warning(tmp_path: Path) -> None:
    answer = answered(model_folder(tmp_path, LLAMA.config, {"model.safetensors.index.json": index(LLAMA.weights_bytes // 4, {})}))
    assert any("check that they belong to one model" in text for text in answer["warnings"])  # type: ignore[attr-defined]


def test_the_weights_of_an_unknown_architecture_are_exact_where_files_state_them(tmp_path: Path) -> None:
    config = {**LLAMA.config, "model_type": "sparkle"}
    answer = answered(model_folder(tmp_path, config, {"model.safetensors.index.json": index(LLAMA.weights_bytes, {})}))
    bounds = answer["bounds"]
    assert isinstance(bounds, dict)
    assert bounds["weights_bytes"] == [LLAMA.weights_bytes, LLAMA.weights_bytes]
    assert bounds["kv_bytes_per_token"][0] < LLAMA.kv_bytes_per_token <= bounds["kv_bytes_per_token"][1]


def test_prediction_layers_that_the_files_do_not_have_are_not_subtracted(tmp_path: Path) -> None:
    whole = PUBLISHED["DeepSeek-V3"]
    counted = from_config(whole.config).upper
    with_them = answered(model_folder(tmp_path / "a", whole.config, {"model.safetensors.index.json": index(whole.weights_bytes, {})}))
    total = whole.weights_bytes - counted.unloaded_bytes
    without = answered(model_folder(tmp_path / "b", whole.config, {"model.safetensors.index.json": index(total, {})}))
    assert without["loaded_weights_bytes"] == without["all_weights_bytes"] == total
    assert with_them["loaded_weights_bytes"] == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("name", ["DeepSeek-V3", "gemma-3-27b", "Jamba-v0.1", "falcon-mamba-7b", "gpt-oss-20b"])
def test_the_description_of_an_answer_describes_the_same_model(name: str, tmp_path: Path) -> None:
    answer = answered(model_folder(tmp_path, PUBLISHED[name].config, {}))
    shape = msgspec.json.decode(json.dumps(answer["description"]), type=ModelShape)
    assert contradiction(shape) is None
    again = fit(described(shape), SERVING)
    same = ("per_gpu", "all_weights_bytes", "kv_bytes_per_token", "state_bytes_per_sequence", "memory_classes_gb", "by_memory_class")
    assert {key: again[key] for key in same} == {key: answer[key] for key in same}
