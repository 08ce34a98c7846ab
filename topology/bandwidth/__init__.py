"""The all-reduce bandwidth of any set of GPUs of a machine, as NCCL reaches it.

Modules, imports down the list. Nothing here knows pods, free GPUs or device plugins, and nothing does I/O.

    bottleneck        why a set is slow, in sentences
    all_reduce        set -> time and bus bandwidth at any message size
    trees, detours    trees over a slow cut; rings with detours over third GPUs
    rings             the best packing of rings through a set
    host_channels     the rings and chains that NCCL runs over PCIe
    ring_orders       the rings through a set
    linear_programme  the optimum of a packing
    fabric            Machine -> graph, links, and the wires of each pair
    pcie_tree         switches, host zones and PCIe wires
    channels          the equal channels that a wire is divided into
    wires             what the traffic of several pairs shares
"""
