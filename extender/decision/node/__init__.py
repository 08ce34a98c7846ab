"""What one node is: its GPUs, which pods hold them, which sets are free and what telemetry adds. Pure.

Here belongs everything that is derived from one Node object, its GpuTopology, its pods and its telemetry. `node_view.node_view` is the
entry point. Must not be imported: the cluster snapshot (`decision.state`) or anything above it, a client, clock, framework or settings
loader.
"""
