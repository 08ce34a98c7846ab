"""What a browser shows of the cluster while it changes: rows, events, samples of the past; computed beside the verbs, once for all."""
