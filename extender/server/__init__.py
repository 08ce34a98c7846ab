"""Processes: what is built from settings, in which order, and served. `service` builds an extender, `cluster_source` feeds it.

The only package beside `cli` that may import sources of cluster state, the web and the settings together.
"""
