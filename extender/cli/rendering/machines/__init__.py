"""The answer of `topo show`: the topology of one machine as plain data, as tables, and as an SVG drawing."""
