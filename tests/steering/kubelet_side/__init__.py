"""Connections of the kubelet that outlive a process."""
