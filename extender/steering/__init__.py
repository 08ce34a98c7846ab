"""`fabricwise steer`: a process on a GPU node, between the kubelet and NVIDIA's device plugin, that answers which devices are preferred.

Imports point down this list.

    command             the command line
    processes           a parent that keeps the connections, its serving process, and the steerers that stand by
    proxies             one proxy per resource between the two sides below; the loop that keeps all of them registered
    answers             the choice within its time limit: facts of the agent, pods of the node, allocations of the kubelet
    kubelet_side        the server that the kubelet calls, on connections that outlive the process
    plugin_side         where NVIDIA's plugin registers, and the client that asks it
    device_plugin_api   messages and names of the device plugin API, for both sides
    choice              a request of the kubelet -> the answer, or why NVIDIA's is forwarded (pure)

It forwards everything else unchanged, and must stay small: nothing here imports numpy or scipy.
"""
