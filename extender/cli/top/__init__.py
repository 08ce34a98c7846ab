"""`fabricwise top`: nodes and pods live in a terminal. Its data are answers of the debug API, so it shows what the web UI shows."""
