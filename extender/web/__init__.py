"""HTTP: decode, read one snapshot, call one pure function, encode. Knows no source of cluster state."""
