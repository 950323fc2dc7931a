"""Linearised propagation as kernels: means, and the covariance of the outputs by one pass back.

Start with `backward`, which says how a layer's backward is added.
"""
