"""Which pods hold which GPUs of a node, and which sets of GPUs may therefore be free. Pure.

allocations   which pod holds which GPUs, by sources of different age
ended_pods    pods that ended lately, until the agent of their node has seen the end
free_sets     masks of free GPUs with probabilities, because some devices are only predicted
"""
