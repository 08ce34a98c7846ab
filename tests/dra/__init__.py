"""Dynamic Resource Allocation: inventory, allocation, prediction, bad input."""
