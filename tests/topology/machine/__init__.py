"""The machine as it is read: matrices, products, links, host zones."""
