"""What a pod is going to run, as far as it can be known without running it. Pure.

config_fields   a config.json's fields under one name each, checked
structure       weights by module, KV cache by layer, recurrent state: what a model consists of
attention, feed_forward, recurrent, towers   the parts of a layer, and vision towers
families, hybrids, architectures   the table of architectures by model_type
schemes, module_patterns, quantization   bytes of quantised matrices, and which matrices a checkpoint quantises
sizes, bounds, recognition   a config.json -> exact sizes, or bounds for what is not known
checkpoint      sizes that safetensors headers and the index state
model           a model's shape: what memory depends on, also as a pod's annotation
memory, capacity   what each GPU must hold, the most that fits
engines, inference   what serving engines' arguments and environment say, every fact with its source
answers         the same as plain data, for people
"""
