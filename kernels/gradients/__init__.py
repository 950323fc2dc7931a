"""Gradients of the loss with respect to means and scales, as kernels."""
