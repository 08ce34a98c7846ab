"""What a published checkpoint's files say, as checked values. Pure: the caller reads the files.

config_fields    fields of a config.json under one name each, checked
schemes          bytes of a quantised matrix by quantisation scheme
module_patterns  which modules the patterns of a quantisation config name
quantization     a quantisation config -> the scheme of each weight
file_sizes       sizes stated by safetensors headers and by the index

This package imports `extender.workload.structure` only: no architecture, no memory arithmetic, no I/O.
"""
