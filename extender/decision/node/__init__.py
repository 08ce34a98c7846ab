"""What one node is: its GPUs, which pods hold them, which sets are free and what telemetry adds. Pure.

node_view         the view of a node, from its Node object, its GpuTopology, its pods and its telemetry
dra_view          the same for a node whose devices are in ResourceSlices; `view_of` chooses between the two
node_sources      what a view is derived from
node_telemetry    telemetry joined with the node's GPUs
node_state        the types: `NodeState` is what a verdict depends on, `NodeView` adds what belongs to this node alone
interned_states   one state object per distinct content
node_labels       what the labels of a Node state
claims_on_node    a demand's claims in terms of the node's own devices
steered_kubelet   how the kubelet hands out devices where a steerer answers
allocation        which pods hold which GPUs, and which sets may be free
devices           how GPUs are shared, how loaded they are, which are faulty
gpu_stack         the parts of the GPU stack that run on the node
scrape_targets    what is scraped from a pod

Here belongs everything that is derived from one node. Must not be imported: the cluster snapshot (`decision.state`) or anything above
it, a client, clock, framework or settings loader.
"""
