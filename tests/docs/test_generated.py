"""The generated pages are what the code says now."""

from __future__ import annotations

import pytest
import yaml

from extender.decision.request.annotations import ANNOTATIONS
from extender.decision.request.reasons import Reason
from tests.checkout import ROOT
from tests.docs.generated import ANNOTATION_PAGE, CONFIGURATION, annotations_page, configuration_page, groups

WRITE = "write it anew: .venv/bin/python -m tests.docs"


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    assert CONFIGURATION.read_text() == configuration_page(), WRITE


def test_the_page_of_settings_has_every_key_of_the_shipped_file() -> None:
    def paths(value: object, prefix: str = "") -> list[str]:
        if not isinstance(value, dict) or not value:
            return [prefix]
        return [path for key, inner in value.items() for path in paths(inner, f"{prefix}.{key}" if prefix else key)]

    shipped = yaml.safe_load((ROOT / "config/extender.yaml").read_text())
    assert sorted(paths(shipped)) == sorted(setting.name for group in groups() for setting in group.settings)


def test_the_table_of_annotations_is_what_a_pod_may_say() -> None:
    assert ANNOTATION_PAGE.read_text() == annotations_page(), WRITE
    for annotation in ANNOTATIONS:
        assert f"| `{annotation.name}` |" in ANNOTATION_PAGE.read_text()


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_every_reason_has_a_section_with_its_resolvable_flag_and_a_remedy(reason: Reason) -> None:
    sections = (ROOT / "docs/reasons.md").read_text().split("\n### ")[1:]
    texts = {section.splitlines()[0]: section for section in sections}
    assert reason.value in texts, f"docs/reasons.md: add a section '### {reason.value}'"
    text = texts[reason.value]
    assert ("\nResolvable: yes" in text) is reason.resolvable, f"docs/reasons.md, {reason.value}: resolvable is {reason.resolvable}"
    assert ("\nResolvable: no" in text) is not reason.resolvable
    assert "\n- Meaning: " in text
    assert "\n- Remedy: " in text


def test_no_section_of_the_page_of_reasons_is_about_a_reason_that_is_not() -> None:
    page = (ROOT / "docs/reasons.md").read_text()
    headings = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(reason.value for reason in Reason)
