"""What is decided about a pod on a node: filters, scores, preemption, groups of pods."""
