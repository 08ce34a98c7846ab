"""What a pod is going to run, as far as it can be known without running it. Pure.

model      a model's shape: out of a Hugging Face config.json or a description -> parameters, KV cache per token
memory     how much of it each GPU must hold, and which memory classes are large enough
inference  what serving engines' arguments and environment say, every fact with its source
answers    the same as plain data, for people
"""
