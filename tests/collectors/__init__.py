"""Scrapes of telemetry targets and of a Prometheus server."""
