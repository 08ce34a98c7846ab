"""Telemetry from exporters, serving engines and Prometheus: a child process scrapes, `feed` runs it and folds what it reads.

The child process imports no Kubernetes client. No exception of httpx leaves `scrape` and `prometheus`; parsing is in `extender.telemetry`.
"""
