"""Commands about nodes: what they have, what they claim, and what still fits on them."""
