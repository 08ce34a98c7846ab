"""The checks of kube-scheduler's default filters, for explanations to people. Pure.

`evaluate.FILTERS` is the table: one function per plugin, in the order in which kube-scheduler runs them, each written from the plugin's
source in Kubernetes 1.36 (`pkg/scheduler/framework/plugins`).

kube-scheduler runs these filters itself before it calls an extender, so the verbs must not import this package. This package imports
`extender.decision.request` only: no state, no evaluation, no client, clock, thread, log or settings loader.
"""
