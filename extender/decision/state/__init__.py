"""What is known of the cluster: the snapshot, the changes and the one fold that applies them. Pure.

snapshot            everything that is known at one moment
pods                the two forms of a pod that requests GPUs: bound, pending
isolation           objects that could not be used, with their cause
status_times        when agents' statuses were made and received
changes             what can happen to the state, as a closed union of data
fold                `reducer.fold_all` and what it consists of; nothing else alters the state
leaving_pods        a node as it will be after some of its pods have left
without_bound_pod   the cluster as if a bound pod had not been bound

What is derived from one node belongs in `decision.node`. Must not be imported: `decision.evaluate`, `decision.cycle`,
`decision.report`, a client, clock, framework or settings loader. Time enters as a change.
"""
