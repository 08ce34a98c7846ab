"""How anything is printed: the console and its formats, tables that fit the terminal, progress, and `--watch`."""
