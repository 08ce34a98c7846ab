"""The header by which the extender recognizes a request of one of its own commands.

A page in a browser cannot set it: the Fetch standard forbids pages every header whose name begins with `Sec-` ("forbidden request-header").
"""

from __future__ import annotations

COMMAND_HEADER = "Sec-Fabricwise-Command"
COMMAND_HEADERS = {COMMAND_HEADER: "1"}
"""What a command sends with each request to an extender."""
