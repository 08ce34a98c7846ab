"""What commands print: formats, tables, plain text, errors."""
