"""GPU nodes and pods on a real control plane: fleets that the tests run as kubelets, with and without extenders, and random clusters."""
