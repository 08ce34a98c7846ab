"""Scheduling: the state of the cluster, the service behind the verbs, and what follows from decisions (bindings, events, requeues).

May keep state, run threads and log. Must not import the web, a source of cluster state, the Kubernetes client, or `kube_filters`:
what writes to the cluster is a Protocol in `ports`.
"""
