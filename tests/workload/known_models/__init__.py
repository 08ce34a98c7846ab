"""Tables of public models: config.json, published bytes and parameters, with their sources."""
