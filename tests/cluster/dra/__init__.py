"""Dynamic Resource Allocation on a real control plane."""
