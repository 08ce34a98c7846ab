"""A node's report: checks with evidence and remedy, and its readiness as questions and answers. Pure.

node_checks         CHECKS, the table; the reports of one node and of all
stack_checks        the software on the node: kubelet, GPU stack, driver, other pods
device_checks       what the node offers, compared with the hardware
hardware_checks     topology, telemetry, faults
readiness           a node's baseline and readiness, as questions and answers
node_subject        the node under check, and the survey of the cluster it is compared with
engine_support      serving engines and number formats by compute capability
reported_versions   driver and CUDA versions as reported
"""
