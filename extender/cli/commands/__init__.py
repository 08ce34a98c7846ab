"""One module per command: each reads its options, calls one function for the answer, and prints it.

What several commands share belongs in `extender.cli`: their options in `options`, output formats in `rendering`. `agent` imports no other
command, because its process runs on every node and must stay small.
"""
