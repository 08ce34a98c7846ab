"""An error about an unknown name says which known names resemble it, also in a large cluster."""

from __future__ import annotations

import difflib

import pytest

from extender.near_names import near_names

FLEET = [f"gpu-node-{number:04d}.zone-{number % 7}" for number in range(8_000)]

WRONG = {
    "the last letter": ("gpu-node-4711.zone-x", "gpu-node-4711.zone-0"),
    "the first letter": ("cpu-node-4711.zone-0", "gpu-node-4711.zone-0"),
    "a letter in the middle": ("gpu-mode-4711.zone-0", "gpu-node-4711.zone-0"),
    "a letter too many": ("gpu-nodee-4711.zone-0", "gpu-node-4711.zone-0"),
    "a missing letter": ("gpu-node4711.zone-0", "gpu-node-4711.zone-0"),
    "a missing end": ("gpu-node-4711", "gpu-node-4711.zone-0"),
    "a missing beginning": ("node-4711.zone-0", "gpu-node-4711.zone-0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_name_with_one_mistake_is_found_among_thousands(case: str) -> None:
    wrong, right = WRONG[case]
    assert right in near_names(wrong, FLEET)


def test_few_names_are_compared_as_difflib_does() -> None:
    assert near_names("gpu-2", ["cpu-2", "gpu-21", "tpu"]) == difflib.get_close_matches("gpu-2", ["cpu-2", "gpu-21", "tpu"])


@pytest.mark.parametrize("name", ["", "ü" * 600, "gpu-node-"])
def test_name_that_resembles_none_is_no_error(name: str) -> None:
    assert len(near_names(name, FLEET)) <= 3
    assert near_names(name, []) == []
