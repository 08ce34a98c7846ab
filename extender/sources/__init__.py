"""Where data comes from that is not a live API server: dump files, class files, model folders, the simulated cluster.

Modules here read files or generate objects. They start no server and write nothing; only `class_file` runs a thread.
"""
