"""What a machine is, and what its links are worth.

Pure, but for `topology.agent`: no I/O, clock, thread, log or randomness in here.
Time and text enter as arguments; a refusal is a `TopologyError` that says what and where.

Modules, from the ground up (imports point down this list only):

    hardware        the frozen facts: Gpu, Nic, Machine
    constants       GB/s of every kind of link, speeds and latencies, each with its source
    products        what a product name alone tells
    host_zones      which devices hang on which CPU
    matrix_text     the tables of `nvidia-smi topo` in a pasted text
    matrix          those tables -> Machine
    fabric          Machine -> networkx graph; which links a pair's traffic crosses
    contradictions  what contradicts itself in a machine, and the other machine it could be
    channels        what NCCL's channels make of a wire
    host_channels   the rings and chains that NCCL runs over the host
    ring_orders     which rings through a set there are
    linear_programme  the packings' optimum
    rings           the best packing of rings through a set
    detours         rings by way of third GPUs
    trees           what trees make of a slow cut
    bandwidth       set of GPUs -> all-reduce performance at any message size
    bottleneck      why a set is slow, in words
    device_plugin   NVIDIA's best-effort policy
    numa_alignment  the kubelet's Topology Manager
    sharing         replicas of shared GPUs
    prediction      free GPUs, sizes -> the sets the kubelet would hand out
    devices         which devices a steerer answers, the values it answers by, and the file it reads them from
    symmetry        pairs, GPUs, sets and machines that are alike
    placement       best, expected and worst set; what remains after it; one table per machine shape
    record          Machine <-> the GpuTopology custom resource
    platforms       known machines, as data
    nvlink_faults   links that should be up and are not
"""
