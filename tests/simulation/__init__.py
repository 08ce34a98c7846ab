"""A deterministic model of a whole cluster around the pure core: API server, kubelets with their agents, kube-scheduler.

Nothing here waits or runs beside anything: one seeded dice decides what happens next, so that every failure can be played again.
"""
