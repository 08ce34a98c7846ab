"""Which devices of a machine a container gets. Pure: no client, clock, thread or log is imported here."""
