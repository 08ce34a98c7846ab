"""The processes of a cluster test: a control plane, the extender, proxies between them, and `fabricwise` commands."""
