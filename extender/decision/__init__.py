"""The decision, pure: no I/O, clock, thread, log or randomness; time enters as data.

objects   the parts of Node and Pod that matter, as small typed structs
demand    pod -> what it asks for, or a refusal
cluster   snapshot of the cluster; per node, which GPUs are believed free
changes   fold(snapshot, change) -> snapshot, the only way state changes
filters   FILTERS: may this pod go to this node at all?
scores    SCORERS: how good would it be?
verdict   both together, per node and over the candidates
answers   a decision as plain data, for people and debug surfaces
"""
