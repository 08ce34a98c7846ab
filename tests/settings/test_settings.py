"""Settings: config/extender.yaml has all defaults; errors name the file and the keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from extender.decision.request.resource_names import is_slice
from extender.errors import FabricwiseError, SettingsError
from extender.settings import Settings
from extender.settings_file import load_settings
from tests.checkout import ROOT


def test_shipped_file_has_every_setting_with_its_default() -> None:
    assert load_settings(ROOT / "config/extender.yaml") == Settings()

    def keys(value: object) -> object:
        return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    import msgspec

    shipped = yaml.safe_load((ROOT / "config/extender.yaml").read_text())
    assert keys(shipped) == keys(msgspec.to_builtins(Settings(), str_keys=False))


def test_configmap_and_file_of_kube_scheduler_have_the_same_text() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/base/scheduler.yaml").read_text()))
    assert documents[0]["data"]["kube-scheduler.yaml"] == (ROOT / "config/kube-scheduler.yaml").read_text()


def test_configmap_and_file_of_workload_classes_have_the_same_text() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/base/extender.yaml").read_text()))
    assert documents[0]["data"]["workload-classes.yaml"] == (ROOT / "config/workload-classes.yaml").read_text()


def test_kube_scheduler_configuration_has_the_values_that_the_extender_needs() -> None:
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
def test_invalid_setting_is_named_with_its_file(tmp_path: Path, text: str) -> None:
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


CONTRADICTING: dict[str, tuple[str, tuple[str, ...]]] = {
    "lease retry above its duration": ("lease: {retry_seconds: 20}", ("lease.retry_seconds (20)", "lease.duration_seconds (15)")),
    "lease retry as long as leading lasts": (
        "lease: {duration_seconds: 3, retry_seconds: 2}",
        ("retry_seconds (2)", "duration_seconds (3)"),
    ),
    "read timeout below the watch": ("kube: {read_timeout_seconds: 100}", ("kube.read_timeout_seconds (100)", "kube.watch_seconds (300)")),
    "watch as long as the read timeout": ("kube: {watch_seconds: 330}", ("kube.read_timeout_seconds (330)", "kube.watch_seconds (330)")),
    "interval as long as the maximum age": (
        "telemetry: {interval_seconds: 60}",
        ("telemetry.max_age_seconds (60)", "telemetry.interval_seconds (60)"),
    ),
    "jumps below the hold share": ("telemetry: {jump_share: 0.05}", ("telemetry.jump_share (0.05)", "telemetry.hold_share (0.08)")),
    "restless time shorter than three readings": (
        "telemetry: {restless_seconds: 20}",
        ("telemetry.restless_seconds (20)", "telemetry.interval_seconds (15)"),
    ),
    "Prometheus without an address": ("telemetry: {source: prometheus}", ("telemetry.source", "telemetry.prometheus.url")),
    "telemetry required and off": (
        "{filtering: {telemetry_required_for: [a]}, telemetry: {source: off}}",
        ("filtering.telemetry_required_for", "telemetry.source"),
    ),
    "assumed pods that expire before their bindings end": (
        "assumed_pods: {ttl_seconds: 5}",
        ("assumed_pods.ttl_seconds (5)", "binding.timeout_seconds (5)"),
    ),
    "no weight at all": (
        "scoring: {weights: {link: 0, fragmentation: 0, memory: 0, pressure: 0}}",
        ("scoring.weights.link", "scoring.weights.pressure"),
    ),
    "no size at all": ("scoring: {size_mix: {2: 0}}", ("scoring.size_mix",)),
    "a certificate without a key": ("server: {tls: {cert_file: a}}", ("cert_file", "key_file")),
    "clients' certificates without TLS": ("server: {tls: {client_ca_file: a}}", ("cert_file", "client_ca_file")),
    "two at once": ("{lease: {retry_seconds: 20}, kube: {watch_seconds: 400}}", ("lease.retry_seconds", "kube.watch_seconds")),
}


@pytest.mark.parametrize("name", CONTRADICTING)
def test_settings_that_contradict_each_other_are_refused_and_both_are_named(tmp_path: Path, name: str) -> None:
    text, named = CONTRADICTING[name]
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_settings(path)
    assert all(word in str(error.value) for word in (str(path), *named)), str(error.value)


AGREEING = (
    "lease: {enabled: false, retry_seconds: 20}",
    "lease: {duration_seconds: 3, retry_seconds: 0.3}",
    "telemetry: {source: off, interval_seconds: 60}",
    "telemetry: {restless_seconds: 0}",
    "assumed_pods: {ttl_seconds: 0}",
    "scoring: {weights: {pressure: 0}}",
    "telemetry: {source: prometheus, prometheus: {url: 'http://p:9090'}}",
)


@pytest.mark.parametrize("text", AGREEING)
def test_settings_that_agree_are_accepted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "right.yaml"
    path.write_text(text)
    assert load_settings(path) != Settings()


@pytest.mark.parametrize("word", ["off", "'off'", "OFF", "no", "false"])
def test_telemetry_source_off_is_accepted_although_yaml_reads_it_as_false(tmp_path: Path, word: str) -> None:
    path = tmp_path / "off.yaml"
    path.write_text(f"telemetry: {{source: {word}}}")
    assert load_settings(path).telemetry.source == "off"
