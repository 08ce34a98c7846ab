"""The web UI in a real browser, on the real HTTP service and a simulated cluster."""
