"""The workload of a pod, as far as it is known without running it: the model and its memory, the serving engine and its arguments. Pure.

structure        the parts of a model: weights by module, KV cache by layer, recurrent state
checkpoint/      what a model's files say: fields of config.json, quantisation, sizes in safetensors headers
model            a model's shape: the numbers that memory depends on, also as a pod's annotation
memory           bytes per GPU for weights, KV cache, state, activations and runtime
architecture/    config.json -> exact sizes of known architectures, bounds for unknown ones
serving/         what a serving engine's arguments and environment say, each fact with its source
capacity         the largest context and concurrency, and the fewest GPUs, that fit
fit_serializers  the results as plain data

This package knows models and engines, not clusters: it must not import any other package of `extender`, nor a client, clock, thread, log
or settings loader.
"""
