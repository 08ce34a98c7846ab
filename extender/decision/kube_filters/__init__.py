"""The checks of kube-scheduler's default filters, for answers to people. Pure.

kube-scheduler runs these filters itself before it asks an extender, so no verb imports this package. `evaluate.FILTERS` is the table: one
function per plugin, in the order in which kube-scheduler runs them, each from its source in Kubernetes 1.36
(`pkg/scheduler/framework/plugins`).
"""
