"""The device plugin API towards NVIDIA's plugin, which registers here and is asked."""
