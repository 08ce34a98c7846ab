"""Machine <-> the custom resource GpuTopology (fabricwise.dev/v1alpha1): one object per node, with the node's name."""
