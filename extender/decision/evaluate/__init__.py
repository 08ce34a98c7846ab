"""The evaluation: (demand, node state) -> verdict, and verdicts -> scores. Pure.

policy             the settings that verdicts depend on
filters            FILTERS: hard requirements of the pod, checked against a node state without telemetry
telemetry_filters  TELEMETRY_FILTERS: requirements checked against telemetry, after FILTERS
link_classes       the worst link class of a set of GPUs
verdict            the result: a rejection, or the evidence for a feasible node
evidence           the numbers of a feasible verdict, weighed over the sets of GPUs that may be free
mask_evidence      the same for one set of free GPUs; many node states share these parts
evaluator          one verdict per demand and node state, cached
by_name            the verdicts on the thousands of nodes that a request names, in arrays
scorers            SCORERS: the values of a feasible node, and its score among the candidates

Nothing here knows the pods of a scheduling cycle, kube-scheduler's own filters or a report: this package must not import
`extender.decision.cycle`, `extender.decision.report` or `extender.decision.kube_filters`, nor a client, clock, thread, log or settings
loader.
"""
