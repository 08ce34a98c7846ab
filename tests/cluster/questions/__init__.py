"""Commands that answer questions about a real cluster: why, what-if, explain, replay, doctor."""
