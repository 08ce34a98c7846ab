"""The node agent: reads the GPUs and device allocations of one node, and publishes both as a GpuTopology.

The only part of `topology` that does I/O, logs and reads clocks. No other part imports it, and it imports nothing of `extender`.

    loop               gather, publish, wait; counters for health and metrics
    publisher          writes the node's GpuTopology to the API server and keeps it current
    gather             driver and kernel readings -> Machine and health
    nvml               the driver's readings, through NVML; the only importer of pynvml
    sysfs              NICs, PCIe tree, NUMA nodes and CPU, from the kernel
    pod_resources      which pod holds which device, from the kubelet
    pod_resources_pb2  the kubelet's messages, generated
"""
