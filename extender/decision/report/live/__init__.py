"""What the live view shows: rows of nodes and pods, and a machine as a graph."""
