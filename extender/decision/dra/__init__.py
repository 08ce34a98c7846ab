"""Dynamic Resource Allocation (`resource.k8s.io/v1`): which devices a node has, which claims hold them, what a pod asks for. Pure.

No I/O, clock, thread, log or randomness here. What the scheduler would not use is left out and said in a note; nothing here raises
because of what an object says.
"""
