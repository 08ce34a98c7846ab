"""The root folder of the checkout: paths of files outside `tests` start there, so that a test that moves still finds them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
