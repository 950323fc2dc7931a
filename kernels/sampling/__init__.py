"""Layers under sampled weights, which kernels draw where they use them; start with `weights`.

`local` draws the outputs of dense layers in their place.
"""
