"""What would happen if: hypothetical changes of a cluster, and where its waiting pods would go. Pure.

A hypothetical cluster is a snapshot with further changes folded in by the one fold. Pods are placed one after another by the evaluation and
the decision that the verbs use; each placed pod is folded in before the next one is evaluated.
"""
