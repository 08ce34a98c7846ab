"""The live view: rows of the cluster, events, and the stream that clients follow."""
