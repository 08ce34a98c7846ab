"""What a pod asks for: Kubernetes objects as typed structs, its GPU request, its annotations and its workload class. Pure.

Here belongs what can be derived from one pod (and the workload classes) without any node. Must not be imported: every other package of
`decision`, a client, clock, framework or settings loader.
"""
