"""The watch: its lines, its events, and how it goes on after each failure of the API server."""
