"""Commands that answer a question about a cluster: how they read it or ask the running extender."""
