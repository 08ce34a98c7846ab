"""List and watch: the streams of an API server, their lines in batches, and each line as an event. It never writes."""
