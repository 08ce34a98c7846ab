"""The device plugin API towards the kubelet, on connections that outlive the process that serves them."""
