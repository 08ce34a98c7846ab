"""`fabricwise steer`: a process on a GPU node, between the kubelet and NVIDIA's device plugin, that answers which devices are preferred.

    messages        the messages of the device plugin API that are read here
    waiting_pods    pods of the node that wait for devices, and what was decided for them (pure)
    choice          a request of the kubelet -> the answer, or why NVIDIA's is forwarded (pure)
    counts          what was steered, forwarded and handed out differently
    node_pods       the pods of this node, from the API server
    chooser         the choice within its time limit
    grpc_session    one gRPC connection as a value that another process can go on with (pure)
    kept            the kubelet's connections, held by a second process, so that they outlive the first
    plugin_server   a server of the device plugin API on such connections
    plugin_proxy    one resource: the server that the kubelet calls, in front of the plugin's
    registration    where the plugin registers, and the registration with the kubelet
    steerer         all of it as one process, that follows restarts of kubelet and plugin
    worker          a parent that keeps the connections, and starts the process anew when it dies
    options         what the command line says
    serving         the process that serves, put together
    process         the process, which replaces that of the command line
    command         the command line

It forwards everything else unchanged, and must stay small: nothing here imports numpy or scipy.
"""
