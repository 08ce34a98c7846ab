"""Tests of device steering."""
