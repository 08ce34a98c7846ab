"""The one fold: changes in, a new snapshot out. Nothing else alters the state. Pure.

reducer           applies each change, then derives the views of the nodes that the changes concern
view_derivation   the views of those nodes
node_changes      nodes, topologies, telemetry and time
pod_changes       pods: pending, bound, ended
device_changes    objects of resource.k8s.io
versions          which change is news: resourceVersions and tombstones
draft             the state while a batch of changes is folded into it
"""
