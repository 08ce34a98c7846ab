"""The steerer between a kubelet and plugins, and kill -9 of its processes."""
