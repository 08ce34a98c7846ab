"""Serving engines: what a container's command line and environment say about its workload. Pure.

serving_engines  ENGINES, the table of engines: how each is recognised, its flags and variables, the GPUs its ranks use
inference        a command line -> facts, each with its source, and warnings

This package must not import `extender.workload.architecture`, `capacity` or `fit_serializers`, and reads no files.
"""
