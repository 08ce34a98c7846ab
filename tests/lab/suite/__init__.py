"""The tests that run inside a lab: `make lab-test`."""
