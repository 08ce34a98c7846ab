"""Which GPUs the kubelet and the device plugin allocate to a container.

Modules, imports down the list. Nothing here knows nodes or pods: masks of GPUs and sizes come in, distributions over masks go out.

    prediction        free GPUs and sizes -> the sets that containers can get, with probabilities
    replica_sharing   the physical GPUs behind replicas of shared GPUs
    device_plugin     NVIDIA's best-effort policy
    first_fit         kube-scheduler's structured allocator of Dynamic Resource Allocation
    numa_alignment    the kubelet's Topology Manager
    facts_file        what the agent tells the steerer about the devices of its node
    steering_table    the values by which sets are compared, in a small form
    steering          the set that the steerer chooses
    size_mix          the sizes of the pods that are expected later, and how a decision records them
"""
