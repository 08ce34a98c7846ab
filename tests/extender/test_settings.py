"""Settings: the shipped file shows the defaults, wrong keys are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from extender.decision.sharing import is_slice
from extender.errors import FabricwiseError, SettingsError
from extender.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def test_the_shipped_file_is_the_defaults_in_full() -> None:
    assert load_settings(ROOT / "config/extender.yaml") == Settings()

    def keys(value: object) -> object:
        return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    import msgspec

    shipped = yaml.safe_load((ROOT / "config/extender.yaml").read_text())
    assert keys(shipped) == keys(msgspec.to_builtins(Settings(), str_keys=False))


def test_the_configmap_and_the_file_for_kube_scheduler_are_one_text() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/base/scheduler.yaml").read_text()))
    assert documents[0]["data"]["kube-scheduler.yaml"] == (ROOT / "config/kube-scheduler.yaml").read_text()


def test_the_configmap_and_the_file_of_workload_classes_are_one_text() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/base/extender.yaml").read_text()))
    assert documents[0]["data"]["workload-classes.yaml"] == (ROOT / "config/workload-classes.yaml").read_text()


def test_the_schedulers_configuration_keeps_the_facts_we_rely_on() -> None:
    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    extender = configuration["extenders"][0]
    assert extender["nodeCacheCapable"] is True
    assert extender["ignorable"] is False
    assert extender["weight"] >= 151
    managed = extender["managedResources"]
    assert managed[0] == {"name": Settings().resource, "ignoredByScheduler": False}
    assert all(one["ignoredByScheduler"] is False and is_slice(one["name"], Settings().resource) for one in managed[1:])
    assert configuration["percentageOfNodesToScore"] == 100


WRONG = {
    "scoring: {wieghts: {}}": "wieghts",
    "scoring: {weights: {link: heavy}}": "$.scoring.weights.link",
    "scoring: {weights: {link: -1}}": "$.scoring.weights.link",
    "limits: {max_body_bytes: 1}": "$.limits.max_body_bytes",
    "server: 7": "$.server",
    "server: {log_level: loud}": "$.server.log_level",
    "resource: ''": "$.resource",
    "- a list": "object",
    "a: [": "neither JSON nor YAML",
    "a: \x00": "neither JSON nor YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_bad_setting_is_named_with_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(FabricwiseError) as error:
        load_settings(path)
    assert WRONG[text] in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_settings(Path("nowhere.yaml"))


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_settings(path) == Settings()
