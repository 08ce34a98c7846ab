"""Architectures: config.json -> weights by part, KV cache and state of each layer. Pure.

attention, feed_forward, recurrent, towers  the parts of a layer, and vision towers
families                                    decoders built of such parts
hybrids, gemma, architectures               DECODERS, the table of architectures by model_type
sizes                                       the sizes of a known structure
bounds                                      lower and upper bounds for an unknown architecture
recognition                                 `from_config`: the entry point

Formulas come from the modelling files named in each module. This package must not import `extender.workload.memory`, `capacity`,
`serving` or `fit_serializers`, and reads no files.
"""
