"""Which devices the steerer chooses for which container."""
