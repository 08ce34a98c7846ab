"""What one node is: allocations, ended pods, shared GPUs, clocks."""
