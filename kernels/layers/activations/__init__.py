"""Elementwise layers as kernels, one file each."""
