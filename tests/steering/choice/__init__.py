"""Which devices one request gets, and what is known for it."""
