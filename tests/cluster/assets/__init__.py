"""The real binaries of etcd, kube-apiserver and kube-scheduler: where they are found, and how Go builds them."""
