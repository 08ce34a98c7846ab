"""The processes that keep a steerer of the node serving: a parent with its serving process, and others that stand by."""
