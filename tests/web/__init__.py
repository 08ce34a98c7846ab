"""Tests of the HTTP surface: its description, the live view, access, the files of the web UI."""
