"""Layers as kernels: moments of the outputs, under the names of `refbnn.layers`."""
