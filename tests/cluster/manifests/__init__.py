"""The manifests on a real API server: what it accepts, and what each account may do."""
