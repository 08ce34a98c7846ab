"""Benchmarks: speed as ratios within one run, never as timed tests. `make bench`."""
