"""How devices are handed out on a node, as arithmetic on bit masks. Imports no I/O, clock or Kubernetes type."""
