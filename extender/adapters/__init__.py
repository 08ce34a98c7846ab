"""Where cluster state comes from. Interchangeable: each turns its source into `Change`s and gives them to a LiveCluster.

manifests   Kubernetes objects as parsed JSON or YAML -> Change (pure)
dump_file   `kubectl get nodes,pods,gputopologies -A -o yaml`
kube_watch  list and watch of a real API server; no vendor exception leaves it
simulated   a cluster of the bundled platforms
"""
