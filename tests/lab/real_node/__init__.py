"""One real node in namespaces of its own: containerd, kubelet, the mock of NVML, the image of its pods."""
