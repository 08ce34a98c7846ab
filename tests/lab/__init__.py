"""A lab: a real control plane and one real node with NVIDIA's device plugin on a mock of NVML; see docs/lab.md. Linux with root, no GPU.

`make lab` starts it, `make lab-test` runs its tests, which are no part of `make test`.
"""
