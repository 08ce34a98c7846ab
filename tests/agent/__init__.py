"""The node agent: readers against fakes that speak the real interfaces."""
