"""Settings and the documents that they are read from."""
