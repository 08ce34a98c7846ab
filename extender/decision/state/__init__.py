"""What is known of the cluster: the snapshot, the changes and the one fold that applies them. Pure.

Here belong the snapshot, the closed union of changes, and the functions that `reducer.fold_all` consists of; nothing else alters the
state. What is derived from one node belongs in `decision.node`. Must not be imported: `decision.evaluate`, `decision.cycle`,
`decision.report`, a client, clock, framework or settings loader. Time enters as a change.
"""
