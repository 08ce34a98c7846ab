"""The API server: watch, Lease, errors of its client, the smoke test."""
