"""The node agent: reads one node's GPUs and who holds them, and publishes both as a GpuTopology.

The only part of `topology` that does I/O.

    nvml            the driver's word, through NVML: the only importer of pynvml
    sysfs           NICs, PCIe tree, NUMA nodes and the CPU, from the kernel
    gather          both put together as a Machine and its health
    pod_resources   which pod holds which device, from the kubelet
    publisher       the node's GpuTopology, kept as it should be on the API server
    loop            gather, publish, wait; health and metrics of its own
"""
