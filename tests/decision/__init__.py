"""Verdicts, preemption, reports and the fold: what is decided about a pod."""
