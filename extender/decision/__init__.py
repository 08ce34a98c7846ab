"""The decision: which nodes a pod may go to, and how good each is. Pure.

The packages, each of which may import only those below it:

replay        decisions and what they were made from as lines of a journal, and made again from it
report        a decision, or the condition of a node, as plain data for people
cycle         one scheduling cycle of a pod: assumed pods, nominated pods, preemption
evaluate      FILTERS and SCORERS: may this pod go to this node, and how good is it?
state         the snapshot of the cluster, and `fold.reducer.fold_all`, the only way it changes
node          one node: its GPUs, which pods hold them, which sets are free
kube_filters  kube-scheduler's own filters, for answers to people only
request       what a pod asks for, or a rejection

Must not be imported anywhere below, also not through other modules: a client, clock, thread, log, source of randomness, framework or
settings loader. Time enters as data.
"""
