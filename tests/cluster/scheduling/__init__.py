"""Pods that a real kube-scheduler places, binds, retries and preempts with the extender, also during failures."""
