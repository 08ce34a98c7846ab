"""What would help a pending pod: each remedy is a small function whose effect is evaluated."""
