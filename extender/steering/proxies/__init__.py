"""One proxy per resource between the kubelet and NVIDIA's plugin, and the loop that keeps all of them registered."""
