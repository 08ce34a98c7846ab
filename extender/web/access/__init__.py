"""The access to the debug port: tokens, and headers that tell browsers what they may do."""
