"""The scheduling cycle of one pod: what is requested, which other pods count, and what is decided. Pure.

assumed_pods      pods decided but not yet visible on the watch, and nominated pods, as extra pods of nodes
scheduling_cycle  begin a cycle, evaluate its nodes, decide
preemption        which of kube-scheduler's preemption candidates make the pod schedulable, and at which cost

This package must not import `extender.decision.report` or `extender.decision.kube_filters`, nor a client, clock, thread, log or settings
loader: times are arguments.
"""
