"""What the eviction of a pod disrupts: who recreates it, which budgets cover it, and which other pods restart with it. Pure.

restart_groups     groups of pods that restart as a whole when one of their pods is evicted
disruption_facts   pods as their manifests state them, and PodDisruptionBudgets
evictions          the pods to evict: whether the eviction API refuses them, and the whole groups that restart with them

`fabricwise why` and `fabricwise defrag` both judge evictions by this package. It must not import a client, clock, thread or log.
"""
