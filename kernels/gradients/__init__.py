"""Gradients of the loss by means and scales of one layer's weights, as kernels.

Start with `kernel`; `dense` and `conv2d` say what is computed and how it is scheduled.
"""
