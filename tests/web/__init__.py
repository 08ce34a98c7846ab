"""Tests of the HTTP surface as a whole."""
