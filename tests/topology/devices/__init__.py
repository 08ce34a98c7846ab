"""Which GPUs the device plugin and the kubelet give to a pod."""
