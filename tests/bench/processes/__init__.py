"""The processes of the benchmark, and the connections to them."""
