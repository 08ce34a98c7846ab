"""What keeps a lab apart from the machine it runs on: namespaces, a cgroup, and signals that end all of it."""
