"""Tests of journals, replay and the decisions API."""
