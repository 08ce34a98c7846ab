"""Tests that hold the documentation to the code: generated pages are current, links and commands exist, examples are placed."""
