"""The GPUs of one node as devices: how they are shared, how loaded they are, and which are faulty. Pure.

gpu_sharing   time-slicing, MPS and MIG: what one requested device stands for
device_load   load and faults by telemetry, joined with the node's GPUs
pressure      load on the devices a pod may get, and on their neighbours
"""
