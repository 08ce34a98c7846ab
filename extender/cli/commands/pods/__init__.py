"""Commands about pods: where they go or went, and why."""
