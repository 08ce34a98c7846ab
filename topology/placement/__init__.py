"""Best, expected and worst set of a machine, and the capability that remains after a set is allocated."""
