"""The web server beside the verbs: the live view, access, the files of the web UI."""
