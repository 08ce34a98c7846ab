"""Dashboards, alert rules and runbooks of manifests/observability."""
