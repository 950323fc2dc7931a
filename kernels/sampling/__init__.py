"""Layers under sampled weights, which kernels draw where they use them; start with `weights`."""
