"""Which devices one request of the kubelet gets, as pure functions: no I/O, clock or thread."""
