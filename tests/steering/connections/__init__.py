"""The steerer's connections between a kubelet and device plugins, and what is kept of them when it dies."""
