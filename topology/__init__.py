"""What a machine is, and what its links are worth.

Imports point down this list. All of it but `agent` is pure: no I/O, clock, thread, log or randomness, no client and no settings.
Time and text are arguments. Text, a record or a machine that contradicts itself is a `TopologyError` that says what and where.
Nothing here imports `extender`.

    agent           the node agent: reads a node's GPUs and allocations, publishes them
    nvlink_faults   NVLinks that should be up and are not
    platforms       known machines, as data
    gputopology     Machine <-> the custom resource GpuTopology
    placement       best, expected and worst set of a machine; one table per machine shape
    symmetry        pairs, GPUs, sets and machines that are interchangeable
    contradictions  statements of a machine that exclude each other
    devices         the GPUs that kubelet and device plugin allocate
    bandwidth       set of GPUs -> all-reduce bandwidth
    machine         GPUs, NICs and links; parsing of `nvidia-smi topo`
"""
