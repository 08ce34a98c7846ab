"""The programs that a lab runs: where they are found, the image of its containers, and the mock of NVML."""
