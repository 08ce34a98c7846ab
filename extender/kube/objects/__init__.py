"""Objects of the API server as changes of state: which kinds are watched, and how one object is decoded. No connection."""
