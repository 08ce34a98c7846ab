"""GPUs, NICs and the links between them: the facts about one machine, and how to parse them.

Modules, imports down the list. Nothing here knows bandwidth of sets, devices of pods or records of nodes, and nothing does I/O.

    matrix         tables of `nvidia-smi topo` -> Machine
    matrix_text    pasted text -> those tables
    products       facts that follow from a product name
    host_zones     which devices are on which CPU
    constants      GB/s, latencies and speeds, each with its source
    links          the link between two GPUs, as a value
    hardware       Gpu, Nic, Machine
"""
