"""What is said about decisions, pods and nodes: evidence, records, rows, reports."""
