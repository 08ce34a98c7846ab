"""Exit statuses of the serving process, by which its parent knows what follows."""

from __future__ import annotations

USELESS = 2
"""A new try is of no use."""
HANDED_OVER = 3
"""Another steerer has its connections."""
NOT_ALONE = 4
"""Another steerer serves."""
