"""What the extender and the agent know of a steered node."""
