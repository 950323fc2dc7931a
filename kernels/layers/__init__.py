"""Layers as kernels, one file each, under the names of `refbnn.layers`.

Start with `layer`, which applies any layer, and `dense`, which says what an operator consists of:
weights in the order of their use, the computation, and its schedule.
"""
